// One run: what went wrong and what to do first, then how it goes or went, its attempts, its ledgers and its log.

import * as actions from "./actions.js";
import { pipelinePath } from "./address.js";
import { ApiError, get } from "./api.js";
import { badge, h, icon, problem, replace, time } from "./dom.js";
import { differenceNote, equation, INPUT, OUTPUT, total } from "./ledger.js";
import { logView } from "./log.js";
import { errorsOf, figuresOf, factsOf } from "./run-facts.js";
import { ledgerTable, liveTable, reportTable } from "./run-tables.js";
import { timeline } from "./timeline.js";
import { followRun } from "./watch.js";

// A run of another process tells nothing but its end.
const LOOK = 5000;

export async function page(context) {
  const { main, params } = context;
  const path = `/api/v1/runs/${encodeURIComponent(params.id)}`;
  let details = await get(path).catch((error) => {
    if (error.status !== 404) throw error;
    throw new ApiError(404, { message: `There is no run ${params.id}.`, next_step: "Its history may have been cleared, or the link is cut off. The runs that are known are under Runs." });
  });
  const pipeline = (details.current ?? details.summary).pipeline;
  let left = false;
  context.onLeave(() => {
    left = true;
  });

  const parts = sections(details, pipeline, { cancel: () => actions.cancel(details.current, { done: look }) });
  replace(main, parts.nodes);
  show();
  const log = logView({ pipeline, run: params.id, live: goesOn(), lines: 1000 });
  replace(parts.logPlace, log.node);
  let logs = log;
  context.onLeave(() => logs.close());
  follow();

  function goesOn() {
    return Boolean(details.current) || details.summary?.status === "running";
  }

  function show() {
    parts.update(details);
  }

  async function look() {
    const before = goesOn();
    details = await get(path).catch(() => details);
    if (left) return;
    show();
    if (before && !goesOn()) {
      // The last lines come with the end; what is read of a file needs no connection.
      logs.close();
      logs = logView({ pipeline, run: params.id, live: false, lines: 2000 });
      replace(parts.logPlace, logs.node);
    }
  }

  function follow() {
    if (details.current) {
      const following = followRun(params.id, {
        progress: (run) => {
          details = { ...details, current: run };
          show();
        },
        end: look,
      });
      context.onLeave(() => following.close());
      const stop = memory(pipeline, parts.showMemory, () => Boolean(details.current));
      context.onLeave(stop);
    } else if (goesOn()) {
      const clock = setInterval(() => (goesOn() ? !document.hidden && look() : clearInterval(clock)), LOOK);
      context.onLeave(() => clearInterval(clock));
    }
  }
}

/** Asks for the memory of the run's workers while it goes on. */
function memory(pipeline, tell, goesOn) {
  let timer = null;
  const ask = async () => {
    if (!document.hidden) {
      const answer = await get("/api/v1/processes").catch(() => null);
      if (answer) tell(new Map(answer.processes.filter((one) => one.pipeline === pipeline).map((one) => [one.partition, one.usage])));
    }
    if (goesOn()) timer = setTimeout(ask, 3000);
  };
  ask();
  return () => clearTimeout(timer);
}

function sections(details, pipeline, { cancel }) {
  const id = (details.current ?? details.summary).run_id;
  const state = h("span", { class: "head-state" });
  const stop = h("button", { type: "button", class: "button-danger", "aria-haspopup": "dialog", onclick: cancel }, "Cancel run …");
  const errors = h("div", { class: "page" });
  const notices = h("div", { class: "page" });
  const figures = h("dl", { class: "figures" });
  const facts = h("dl", { class: "facts-grid" });
  const progressPlace = h("div", {});
  const many = (found) => found.length > 12;
  const attempts = card("Attempts");
  const ledgers = card("Ledgers");
  const counters = card("Counters of the plugin");
  const log = card("Log");
  const logPlace = h("div", {});
  log.append(logPlace);
  const progress = card("Partitions");
  progress.append(progressPlace);

  let kind = null;
  let list = null;
  let line = null;
  let books = null;
  let usage = new Map();
  let last = details;

  const nodes = [
    h(
      "div",
      { class: "page-head" },
      h(
        "div",
        {},
        h("nav", { class: "crumbs", "aria-label": "Breadcrumbs" }, h("a", { href: "/" }, "Pipelines"), " / ", h("a", { href: pipelinePath(pipeline) }, pipeline)),
        h("div", { class: "head-title" }, h("h1", { dataset: { title: `Run of ${pipeline}` } }, `Run of ${pipeline}`), state),
        h("p", { class: "mono run-id" }, id),
      ),
      h("div", { class: "actions" }, copyLink(), stop),
    ),
    errors,
    notices,
    h("section", { class: "card", "aria-label": "Summary" }, figures, facts),
    progress,
    attempts,
    ledgers,
    counters,
    log,
  ];

  function update(now) {
    last = now;
    const { current, summary, report } = now;
    const status = current ? (current.started_at ? "running" : "queued") : summary.status;
    once(state, [status, current?.stopping], () => badge(status, current?.stopping ? "stopping" : undefined));
    stop.hidden = !current;
    stop.disabled = Boolean(current?.stopping);
    once(errors, [status, report?.run_id, summary?.error], () => (current ? null : errorsOf(now)));
    errors.hidden = !errors.hasChildNodes();
    once(notices, [status, current?.waits_for, current?.stopping], () => noticesOf(now, pipeline));
    notices.hidden = !notices.hasChildNodes();
    replace(figures, figuresOf(now));
    once(facts, current ? [current.run_id, current.started_at, current.backfill] : [summary, Boolean(report)], () => factsOf(now));
    showPartitions(now);
  }

  function showPartitions({ current, report }) {
    const found = current?.partitions ?? report?.partitions ?? [];
    const wanted = current ? "live" : "over";
    progress.hidden = found.length === 0;
    if (kind !== wanted) {
      kind = wanted;
      list = current ? liveTable() : reportTable();
      replace(progressPlace, list.node);
    }
    progressPlace.classList.toggle("many", many(found));
    list.update(found.map((one) => (current ? { ...one, resident: usage.get(one.name)?.resident_bytes ?? null } : one)));

    const tried = found.filter((one) => one.timeline?.length);
    attempts.hidden = tried.length === 0;
    if (tried.length) {
      if (line) line.update(tried);
      else {
        line = timeline(tried);
        attempts.append(line.node);
      }
    }

    const sum = total(found);
    ledgers.hidden = !sum;
    if (sum) {
      const running = Boolean(current);
      if (!books) {
        books = { sums: h("div", { class: "equations" }), list: ledgerTable() };
        ledgers.append(books.sums, h("details", { class: "options" }, h("summary", {}, "By partition"), books.list.node));
      }
      once(books.sums, [sum, running], () => [
        h("h3", {}, "Rows that were read"), equation(sum, INPUT, { running }), differenceNote(sum, { running }),
        h("h3", {}, "Rows that were made"), equation(sum, OUTPUT, { running }),
      ]);
      books.list.node.classList.toggle("many", many(found));
      books.list.update(found.filter((one) => one.ledger).map((one) => ({ name: one.name, ...one.ledger, running })));
    }

    const named = Object.entries(report?.counters ?? {});
    counters.hidden = named.length === 0;
    if (named.length && counters.childElementCount === 1) {
      counters.append(h("dl", { class: "facts" }, named.map(([name, n]) => [h("dt", {}, h("code", {}, name)), h("dd", { class: "numeric" }, n.toLocaleString("en"))])));
    }
  }

  return {
    nodes,
    logPlace,
    update,
    showMemory(found) {
      usage = found;
      if (last.current) showPartitions(last);
    },
  };
}

let titles = 0;

function card(title) {
  titles += 1;
  const id = `card-${titles}`;
  return h("section", { class: "card", "aria-labelledby": id }, h("div", { class: "card-head" }, h("h2", { id }, title)));
}

// Made anew only if what it says has changed.
function once(node, said, make) {
  const text = JSON.stringify(said);
  if (node.dataset.said === text) return;
  node.dataset.said = text;
  replace(node, make());
}

function noticesOf({ current, summary }, pipeline) {
  const notice = (tone, shape, title, text) =>
    h("div", { class: `notice tone-${tone}` }, h("p", { class: "notice-title" }, icon(shape), h("span", {}, title)), text ? h("p", {}, text) : null);
  if (current && !current.started_at) {
    return notice("wait", "clock", `It waits for ${current.waits_for ?? "its turn"}.`, current.scheduled_for ? ["It was due ", time(current.scheduled_for), ". It begins by itself."] : "It begins by itself.");
  }
  if (current?.stopping) return notice("warn", "clock", "It was asked to stop.", "It ends once what is in flight is committed or rolled back.");
  if (!current && summary.status === "running") return notice("active", "play", "It runs in another process.", "Such as etl-host run on the command line. Its numbers come when it ends; it is stopped where it was started.");
  if (!current && summary.status === "interrupted") {
    return [
      problem({ message: "Its host ended while it ran, so it has no report.", nextStep: `What was committed stays, and the next run of ${pipeline} goes on from there. The log below says what came last.` }),
    ];
  }
  return null;
}

/** So that it can be pasted into a ticket. */
function copyLink() {
  const label = h("span", {}, "Copy link");
  const said = h("span", { class: "visually-hidden", role: "status" });
  let back = null;
  const tell = (text) => {
    replace(label, text);
    replace(said, text === "Copy link" ? null : text);
    clearTimeout(back);
    if (text !== "Copy link") back = setTimeout(() => tell("Copy link"), 3000);
  };
  const button = h(
    "button",
    {
      type: "button", class: "copy-link",
      onclick: async () => {
        const link = location.origin + location.pathname;
        try {
          await navigator.clipboard.writeText(link);
          tell("Copied");
        } catch {
          // Plain HTTP from another machine has no clipboard.
          tell(copyByHand(link) ? "Copied" : "Copy the address");
        }
      },
    },
    label,
  );
  return [button, said];
}

function copyByHand(text) {
  const field = h("textarea", { class: "visually-hidden", "aria-hidden": "true" });
  const before = document.activeElement;
  field.value = text;
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  before?.focus();
  return done;
}
