// One row for each pipeline of the overview.

import { pipelinePath, runPath } from "./address.js";
import { sparkline } from "./chart.js";
import { badge, count, duration, empty, h, time } from "./dom.js";
import { table } from "./table.js";

export function overviewTable({ search, tools, onsearch }) {
  let any = true;
  const nothing = h("div", {});
  const list = table({
    caption: "Pipelines",
    key: (pipeline) => pipeline.name,
    columns: [
      { key: "state", label: "State", cell: state, class: "col-state width-140" },
      { key: "name", label: "Pipeline", header: true, cell: name, class: "col-name" },
      { key: "last", label: "Last run", cell: last, class: "width-140" },
      { key: "rows", label: "Rows", numeric: true, cell: rows, class: "width-120" },
      { key: "seconds", label: "Took", numeric: true, cell: (one) => duration(one.last_run?.seconds), class: "width-100" },
      { key: "recent", label: "Last 30 runs", cell: (one) => sparkline(one.recent ?? []), class: "col-recent width-180" },
      { key: "lag", label: "Behind source", numeric: true, cell: (one) => duration(one.lag_seconds), class: "width-120" },
      { key: "next", label: "Next run", cell: next, class: "width-140" },
      { key: "run", label: "", title: "Action", cell: action, class: "col-action width-100" },
    ],
    rowClass: (one) => (failing(one) ? "row-failing" : null),
    steady: true,
    filter: { label: "Search pipelines", value: search, onfilter: onsearch },
    tools: [tools],
    empty: nothing,
  });

  list.node.classList.add("table-tall");

  return {
    node: list.node,
    update(pipelines, options) {
      any = options.any;
      if (!pipelines.length) nothing.replaceChildren(any ? noMatch() : noPipelines());
      // Before there is anything to search, there is nothing to search with.
      list.node.classList.toggle("table-bare", !any);
      list.update(pipelines, options);
    },
  };
}

const BAD = ["failed", "partial", "interrupted"];

/** As the daemon counts it. */
function failing(one) {
  return BAD.includes(one.last_load) || one.state === "broken" || one.state === "parked" || Boolean(one.overdue_since);
}

function state(one) {
  const run = one.current_run;
  const since = run?.started_at
    ? h("a", { class: "cell-note", href: runPath(run.run_id) }, "started ", time(run.started_at, { focus: false }))
    : run
      ? h("a", { class: "cell-note", href: runPath(run.run_id), title: run.waits_for }, "waits")
      : null;
  return h("div", { class: "cell-lines" }, h("span", { class: "cell-line" }, badge(one.state)), since);
}

function name(one) {
  const note = one.config_error ? firstLine(one.config_error) : one.description;
  return h(
    "div",
    { class: "cell-lines" },
    h("a", { class: "cell-name", href: pipelinePath(one.name) }, one.name),
    note ? h("span", { class: "cell-note one-line", title: one.description || null }, note) : null,
  );
}

function firstLine(text) {
  return text.split("\n", 1)[0];
}

function last(one) {
  const run = one.last_run;
  if (!run) return h("span", { class: "quiet" }, "never");
  return h(
    "div",
    { class: "cell-lines" },
    h("span", { class: "cell-line" }, badge(run.status)),
    h("a", { class: "cell-note", href: runPath(run.run_id), title: run.error || null }, time(run.finished_at ?? run.started_at, { focus: false })),
  );
}

function rows(one) {
  const run = one.last_run;
  return h(
    "div",
    { class: "cell-lines cell-end" },
    h("span", {}, count(run?.loaded)),
    run?.quarantined ? h("span", { class: "cell-note toned tone-warn" }, `${count(run.quarantined)} set aside`) : null,
  );
}

function next(one) {
  const overdue = one.overdue_since
    ? h("span", { class: "cell-line" }, badge("overdue"), h("span", { class: "cell-note" }, time(one.overdue_since)))
    : null;
  const without = one.state === "paused" ? "paused" : one.state === "disabled" ? "stopped" : one.schedule ? null : "no schedule";
  return h(
    "div",
    { class: "cell-lines" },
    overdue,
    one.next_run ? time(one.next_run) : h("span", { class: "quiet" }, without ?? "–"),
    one.schedule && !overdue ? h("span", { class: "cell-note one-line", title: one.schedule }, one.schedule) : null,
  );
}

function action(one) {
  const run = one.current_run;
  if (run) return h("a", { class: "button button-small", href: runPath(run.run_id), "aria-label": `Follow the run of ${one.name}` }, "Follow");
  if (one.state === "broken") {
    return h("a", { class: "button button-small", href: pipelinePath(one.name), "aria-label": `Details of ${one.name}` }, "Details");
  }
  return h(
    "button",
    {
      type: "button", class: "button-small", "aria-label": `Run ${one.name}`, "aria-haspopup": "dialog",
      onclick: async () => {
        const actions = await import("./actions.js");
        actions.run(one);
      },
    },
    "Run",
  );
}

function noMatch() {
  return empty("No pipeline matches", "Nothing has this name or description and this state.", h("a", { class: "button", href: "/" }, "Show all"));
}

function noPipelines() {
  return empty(
    "No pipelines yet",
    [
      "Drop a plugin file (", h("code", {}, "lib….so"), ") into the daemon's plugins folder, or let ", h("code", {}, "etl-host install"),
      " do it. ", h("code", {}, "etl-host generate"), " writes a new plugin. The daemon takes it up by itself, and it shows here.",
    ],
    h("a", { class: "button", href: "/plugins" }, "Refused plugin files"),
  );
}
