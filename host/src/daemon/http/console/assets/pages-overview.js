// All pipelines on one page, failures first: where each stands, how its last runs went, when it runs next.

import { address, remember } from "./address.js";
import { get } from "./api.js";
import { count, h, icon, plural, replace, time } from "./dom.js";
import { refetch } from "./refetch.js";
import { overviewTable } from "./overview-table.js";
import { load } from "./router.js";
import { refusedNotice } from "./pages-plugins.js";

const PAGE = 50;

// In the order of how much they want attention.
const STATES = [
  ["", "All", null],
  ["failing", "Failing", "tone-bad", "cross"],
  ["running", "Running", "tone-active", "play"],
  ["queued", "Queued", "tone-wait", "clock"],
  ["idle", "Idle", "tone-calm", "dot"],
  ["paused", "Paused", "tone-off", "pause"],
  ["disabled", "Stopped", "tone-off", "stop"],
  ["parked", "Parked", "tone-bad", "stop"],
  ["broken", "Broken", "tone-bad", "warning"],
];

export async function page(context) {
  const { main, query } = context;
  const asked = {
    search: query.get("search") ?? "",
    state: query.get("state") ?? "",
    sort: query.get("sort") === "name" ? "name" : "attention",
    offset: Math.max(0, Number.parseInt(query.get("offset") ?? "0", 10) || 0),
  };
  const inAddress = () => ({ ...asked, sort: asked.sort === "name" ? "name" : "" });
  const pipelinesPath = () => address("/api/v1/pipelines", { ...asked, limit: PAGE });

  let [daemon, found, refused] = await load("/api/v1/daemon", pipelinesPath(), "/api/v1/plugins/refused");
  if (found.pipelines.length === 0 && asked.offset > 0) {
    asked.offset = 0;
    remember("/", inAddress());
    found = await get(pipelinesPath());
  }

  const about = h("p", {});
  const notices = h("div", { class: "page" });
  const chips = STATES.map(([state, label, tone, shape]) => {
    const number = h("strong", {});
    const link = h("a", { class: ["chip", tone] }, shape ? icon(shape) : null, `${label} `, number);
    return { state, number, link, item: h("li", {}, link) };
  });
  const order = h(
    "select",
    {
      value: asked.sort,
      onchange: () => {
        Object.assign(asked, { sort: order.value, offset: 0 });
        again();
      },
    },
    h("option", { value: "attention" }, "failures first"),
    h("option", { value: "name" }, "name"),
  );
  let typing = null;
  const list = overviewTable({
    search: asked.search,
    tools: h("label", { class: "field" }, h("span", {}, "Order"), order),
    onsearch(text) {
      clearTimeout(typing);
      typing = setTimeout(() => {
        Object.assign(asked, { search: text.trim(), offset: 0 });
        again();
      }, 200);
    },
  });
  const said = h("p", { class: "quiet", role: "status" });
  const turn = h("div", { class: "actions" });
  const states = h("nav", { "aria-label": "Pipelines by state" }, h("ul", { class: "chips" }, chips.map((chip) => chip.item)));
  const pager = h("div", { class: "pager" }, said, turn);

  replace(
    main,
    h("div", { class: "page-head" }, h("div", {}, h("h1", { dataset: { title: "Overview" } }, "Pipelines"), about)),
    notices,
    states,
    list.node,
    pager,
  );
  show({ force: true });

  function show({ force = false } = {}) {
    showAbout();
    const all = Object.entries(found.states ?? {}).reduce((sum, [state, n]) => (state === "failing" ? sum : sum + n), 0);
    for (const { state, number, link, item } of chips) {
      const n = state === "" ? all : (found.states?.[state] ?? (state === "failing" ? null : 0));
      replace(number, n === null ? "" : count(n));
      link.setAttribute("href", address("/", { ...inAddress(), state, offset: 0 }));
      if (state === asked.state) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
      item.classList.toggle("chip-zero", n === 0 && state !== asked.state && state !== "failing");
    }
    const any = all > 0 || asked.search !== "" || asked.state !== "";
    list.update(found.pipelines, { force, any });
    states.hidden = !any;
    pager.hidden = !any;
    showPager();
  }

  function showAbout() {
    replace(
      about,
      `etl-host ${daemon.version} · `,
      h("span", { class: "numeric" }, `${count(daemon.running)} of at most ${plural(daemon.max_concurrent_runs, "run")} at once`),
      " · started ",
      time(daemon.started_at),
    );
    replace(
      notices,
      daemon.draining
        ? h("div", { class: "notice tone-warn", role: "status" },
            h("p", { class: "notice-title" }, icon("clock"), "The daemon is about to end."),
            h("p", {}, "What is in flight is brought to its end; no run starts any more."))
        : null,
      refusedNotice(refused.refused),
    );
    notices.hidden = !notices.hasChildNodes();
  }

  function showPager() {
    const from = found.pipelines.length ? asked.offset + 1 : 0;
    const to = asked.offset + found.pipelines.length;
    const text = found.total > PAGE || asked.offset ? `${count(from)}–${count(to)} of ${plural(found.total, "pipeline")}` : plural(found.total, "pipeline");
    if (said.textContent !== text) replace(said, text);
    const step = (label, offset, there) =>
      there
        ? h("a", { class: "button", href: address("/", { ...inAddress(), offset }) }, label)
        : null;
    replace(turn, step("← Previous", Math.max(0, asked.offset - PAGE), asked.offset > 0), step("Next →", asked.offset + PAGE, to < found.total));
  }

  /** After another search or order. */
  async function again() {
    remember("/", inAddress());
    const path = pipelinesPath();
    const answer = await get(path);
    // Of two searches that cross each other the last one counts.
    if (path !== pipelinesPath()) return;
    found = answer;
    show({ force: true });
  }

  const freshen = refetch(
    context,
    async () => {
      const path = pipelinesPath();
      const answers = await load("/api/v1/daemon", path, "/api/v1/plugins/refused");
      if (path !== pipelinesPath()) return;
      [daemon, found, refused] = answers;
      show();
    },
    // A page of pipelines with their last runs is large, and a busy daemon tells of many.
    { pause: 400, least: 1500, every: 30_000 },
  );
  context.onEvent(freshen);
  context.onLeave(() => clearTimeout(typing));
}
