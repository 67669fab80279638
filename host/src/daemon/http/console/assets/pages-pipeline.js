// One pipeline: what it is and does now, what can be done with it, and a tab for each side of it.

import * as actions from "./actions.js";
import { address, pipelinePath } from "./address.js";
import { ApiError, get } from "./api.js";
import { badge, h, icon, problem, replace, time } from "./dom.js";
import { refetch } from "./refetch.js";
import { runCard } from "./run-card.js";

const TABS = [
  ["overview", "Overview", () => import("./pages-pipeline-overview.js")],
  ["runs", "Runs", () => import("./pages-pipeline-runs.js")],
  ["schedule", "Schedule", () => import("./pages-pipeline-schedule.js")],
  ["configuration", "Configuration", () => import("./pages-pipeline-config.js")],
  ["dead-letters", "Dead letters", () => import("./pages-pipeline-letters.js")],
  ["logs", "Logs", () => import("./pages-pipeline-logs.js")],
];

export async function page(context) {
  const { main, params, query } = context;
  const path = `/api/v1/pipelines/${encodeURIComponent(params.name)}`;
  const wanted = TABS.find(([key]) => key === query.get("tab")) ?? TABS[0];
  const [pipeline, schedule, module] = await Promise.all([
    get(path), get(`${path}/schedule`).catch(() => null), wanted[2](),
  ]).catch((error) => {
    if (error.status === 404) throw new ApiError(404, { message: `There is no pipeline ${params.name}.`, next_step: "It may have been deleted or renamed: look at the overview." });
    throw error;
  });

  const about = { name: pipeline.name, pipeline, schedule };
  const listeners = [];
  const state = h("span", { class: "head-state" });
  const facts = h("p", { class: "head-facts" });
  const buttons = h("div", { class: "actions" });
  const notices = h("div", { class: "page" });
  const watchers = [];
  const live = runCard(context, { ended: () => freshen(), progress: (run) => watchers.forEach((watcher) => watcher(run)) });
  const pane = h("div", { class: "page" });

  const freshen = refetch(context, async () => {
    [about.pipeline, about.schedule] = await Promise.all([get(path), get(`${path}/schedule`).catch(() => null)]);
    show();
    for (const listener of listeners) await listener();
  }, { every: 30_000 });
  context.onEvent((event) => {
    if (event.pipeline === about.name || ["lagged", "plugins_changed"].includes(event.event)) freshen();
  });

  replace(
    main,
    h(
      "div",
      { class: "page-head" },
      h(
        "div",
        {},
        h("nav", { class: "crumbs", "aria-label": "Breadcrumbs" }, h("a", { href: "/" }, "Pipelines")),
        h("div", { class: "head-title" }, h("h1", {}, about.name), state),
        pipeline.description ? h("p", {}, pipeline.description) : null,
        facts,
      ),
      buttons,
    ),
    notices,
    live.node,
    tabs(about.name, wanted[0]),
    pane,
  );
  show();

  // A tab is given what is known, and asks for the rest itself.
  await module.tab({
    about,
    query,
    pane,
    path,
    freshen,
    onChange: (listener) => listeners.push(listener),
    onProgress: (watcher) => watchers.push(watcher),
    onEvent: context.onEvent,
    onLeave: context.onLeave,
  });

  function show() {
    const one = about.pipeline;
    update(state, one.state, () => badge(one.state));
    update(facts, JSON.stringify([one.next_run, one.schedule, one.version]), () => factsOf(one));
    update(buttons, JSON.stringify([one.state, one.current_run?.run_id, one.current_run?.stopping, about.schedule?.paused, one.schedule]), () => buttonsOf(about, freshen));
    update(notices, JSON.stringify([one.state, one.config_error, one.overdue_since]), () => noticesOf(about, path, notices, freshen));
    notices.hidden = !notices.hasChildNodes();
    live.update(one);
  }
}

// What is as it was is not made anew, so that whoever is there keeps the focus.
function update(node, said, make) {
  if (node.dataset.said === said) return;
  const at = [...node.querySelectorAll("button, a")].indexOf(document.activeElement);
  node.dataset.said = said;
  replace(node, make());
  if (at >= 0) node.querySelectorAll("button, a")[at]?.focus({ preventScroll: true });
}

function factsOf(one) {
  const parts = [];
  if (one.schedule) parts.push(one.schedule);
  if (one.next_run) parts.push(["next run ", time(one.next_run)]);
  parts.push(`version ${one.version}`);
  if (one.delivery) parts.push(one.delivery);
  return parts.map((part, index) => [index ? " · " : null, part]);
}

function buttonsOf(about, done) {
  const one = about.pipeline;
  const act = (label, action, props = {}) =>
    h("button", { type: "button", "aria-haspopup": "dialog", onclick: () => action(about.pipeline, { done }), ...props }, label);
  const stopped = ["disabled", "parked"].includes(one.state);
  const run = one.current_run;
  return [
    run ? act("Cancel run …", () => actions.cancel(about.pipeline.current_run, { done }), { disabled: run.stopping }) : null,
    one.state === "broken" ? null : act("Run …", actions.run, { class: run || stopped ? null : "button-primary", dataset: { key: "r" }, "aria-keyshortcuts": "r" }),
    stopped ? act("Start …", actions.start, { class: "button-primary" }) : null,
    !stopped && one.schedule ? (about.schedule?.paused ? act("Resume …", actions.resume) : act("Pause …", actions.pause)) : null,
    one.state === "broken" ? null : act("Backfill …", actions.backfill),
    stopped ? null : act("Stop …", actions.stop),
  ];
}

function noticesOf(about, path, place, done) {
  const one = about.pipeline;
  const notice = (tone, shape, title, text, ...buttons) =>
    h(
      "div",
      { class: `notice tone-${tone}` },
      h("p", { class: "notice-title" }, icon(shape), h("span", {}, title)),
      text ? h("p", {}, text) : null,
      buttons.length ? h("div", { class: "actions notice-actions" }, buttons) : null,
    );
  const button = (label, action) => h("button", { type: "button", class: "button-small", "aria-haspopup": "dialog", onclick: () => action(about.pipeline, { done }) }, label);
  const found = [];
  if (one.config_error) {
    const shown = h("div", {}, problem({ message: one.config_error, nextStep: "Mend the configuration. The daemon reads it again by itself." }));
    // What needs the configuration says file, line and fix of each mistake.
    get(`${path}/checkpoints`).catch((error) => error.problems?.length ? replace(shown, problem(error)) : null);
    found.push(shown);
  }
  if (one.state === "parked") found.push(notice("bad", "stop", "Parked: its plugin crashed in run after run.", "Nothing runs it until the plugin is replaced or somebody starts it again. The logs have the crashes.", button("Start …", actions.start)));
  if (one.state === "disabled") found.push(notice("off", "stop", "Stopped: nothing starts it by itself.", "What is due meanwhile is not made up for.", button("Start …", actions.start)));
  if (one.state === "paused") found.push(notice("off", "pause", "Paused: its schedule starts no run.", "What is due meanwhile is not made up for. It can be run by hand.", button("Resume …", actions.resume)));
  if (one.overdue_since) found.push(notice("warn", "clock", "Overdue", ["It was due ", time(one.overdue_since), " and has not begun."]));
  return found;
}

function tabs(name, current) {
  const links = TABS.map(([key, label]) =>
    h("a", { href: address(pipelinePath(name), { tab: key === "overview" ? "" : key }), "aria-current": key === current ? "page" : null }, label));
  const nav = h(
    "nav",
    {
      class: "tabs", "aria-label": `Of ${name}`,
      onkeydown: (event) => {
        const at = links.indexOf(document.activeElement);
        const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: links.length - 1 }[event.key];
        if (at < 0 || to === undefined) return;
        event.preventDefault();
        links[(to + links.length) % links.length].focus();
      },
    },
    links,
  );
  // On a phone the row of tabs scrolls; the one that is open is to be seen.
  requestAnimationFrame(() => {
    const open = links.find((link) => link.hasAttribute("aria-current"));
    if (open && open.offsetLeft + open.offsetWidth > nav.clientWidth) nav.scrollLeft = open.offsetLeft - 40;
  });
  return nav;
}
