// A pipeline's runs: how they went as a chart, and each of them, a page at a time.

import { address, pipelinePath, runPath } from "./address.js";
import { get } from "./api.js";
import { history, rate } from "./chart.js";
import { badge, count, duration, empty, h, plural, replace, time } from "./dom.js";
import { table } from "./table.js";

const PAGE = 60;

export async function tab({ about, query, pane, onChange }) {
  const before = query.get("before") ?? "";
  const path = address("/api/v1/runs", { pipeline: about.name, before, limit: PAGE });
  const here = (other) => address(pipelinePath(about.name), { tab: "runs", before: other });
  const nothing = before
    ? empty("No older runs", "History goes no further back.", h("a", { class: "button", href: here("") }, "To the newest"))
    : empty("No runs yet", "Start the first one with Run above, or give it a schedule.", h("a", { class: "button", href: address(pipelinePath(about.name), { tab: "schedule" }) }, "To the schedule"));

  let found = await get(path);
  const chart = history(found.runs);
  const list = table({ caption: `Runs of ${about.name}`, key: (run) => run.run_id, columns: columns(), rows: found.runs, filter: "Filter runs", empty: nothing });
  const turn = h("div", { class: "actions" });
  const said = h("p", { class: "quiet" });
  const card = h("section", { class: "card", "aria-labelledby": "history-title" }, h("div", { class: "card-head" }, h("h2", { id: "history-title" }, "History")), chart.node);
  replace(pane, card, list.node, h("div", { class: "pager" }, said, turn));
  show();

  function show() {
    card.hidden = found.runs.length === 0;
    const next = found.next ? new URL(found.next, location.origin).searchParams.get("before") : null;
    replace(said, found.runs.length ? `${plural(found.runs.length, "run")}${before ? "" : ", the newest"}` : "");
    replace(
      turn,
      before && found.runs.length ? h("a", { class: "button", href: here("") }, "← Newest") : null,
      next ? h("a", { class: "button", href: here(next) }, "Older →") : null,
    );
  }

  // What is older does not change.
  if (before) return;
  onChange(async () => {
    const now = await get(path);
    if (JSON.stringify(now) === JSON.stringify(found)) return;
    found = now;
    chart.update(found.runs);
    list.update(found.runs);
    show();
  });
}

function columns() {
  return [
    { key: "status", label: "Status", sortable: true, cell: (run) => badge(run.status) },
    {
      key: "started_at", label: "Run", header: true, sortable: true, class: "col-run",
      cell: (run) => h("a", { href: runPath(run.run_id) }, time(run.started_at, { focus: false }), h("span", { class: "visually-hidden" }, `, ${run.status}`)),
    },
    { key: "trigger", label: "Started by", sortable: true },
    { key: "seconds", label: "Took", numeric: true, sortable: true, cell: (run) => duration(run.seconds) },
    { key: "extracted", label: "Read", numeric: true, sortable: true, cell: (run) => count(run.extracted) },
    { key: "rate", label: "Rows/s", numeric: true, sortable: true, value: rate, cell: (run) => (rate(run) === null ? "–" : count(Math.round(rate(run)))) },
    { key: "loaded", label: "Loaded", numeric: true, sortable: true, cell: (run) => count(run.loaded) },
    {
      key: "quarantined", label: "Quarantined", numeric: true, sortable: true,
      cell: (run) => (run.quarantined ? h("span", { class: "toned tone-warn" }, count(run.quarantined)) : count(run.quarantined)),
    },
    { key: "attempts", label: "Attempts", numeric: true, sortable: true, cell: (run) => count(run.attempts) },
    { key: "error", label: "Error", class: "col-text", cell: (run) => (run.error ? h("span", { class: "clamp", title: run.error }, run.error) : "") },
  ];
}
