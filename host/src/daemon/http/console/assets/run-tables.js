// A run's partitions as tables: while it runs, once it is over, and their ledgers.

import { badge, bytes, count, duration, h, time } from "./dom.js";
import { INPUT, OUTPUT, verdict } from "./ledger.js";
import { table } from "./table.js";

/** Partitions of a run that goes on. */
export function liveTable() {
  return table({
    caption: "Partitions of the run",
    key: (one) => one.name,
    filter: "Filter partitions",
    columns: [
      { key: "name", label: "Partition", header: true, sortable: true, class: "col-name" },
      { key: "activity", label: "Does", sortable: true, class: "col-outcome", cell: activity },
      { key: "attempt", label: "Attempt", numeric: true, sortable: true, cell: (one) => count(one.attempt) },
      { key: "extracted", label: "Read", numeric: true, sortable: true, cell: (one) => count(one.extracted) },
      { key: "rate", label: "Rows/s", numeric: true, sortable: true, cell: (one) => (one.rate === null || one.rate === undefined ? "–" : count(Math.round(one.rate))) },
      { key: "loaded", label: "Loaded", numeric: true, sortable: true, cell: (one) => count(one.loaded) },
      { key: "quarantined", label: "Quarantined", numeric: true, sortable: true, cell: quarantined },
      { key: "resident", label: "Memory", numeric: true, sortable: true, cell: (one) => bytes(one.resident) },
    ],
  });
}

function activity(one) {
  const said = one.activity === "retrying" ? (one.reason ?? "no reason given") : null;
  const last = one.timeline?.[one.timeline.length - 1];
  const again = one.activity === "retrying" && last?.ended_at && last.wait_seconds ? new Date(Date.parse(last.ended_at) + last.wait_seconds * 1000) : null;
  return h(
    "div",
    { class: "cell-lines" },
    h("span", { class: "cell-line" }, badge(one.activity), again && again > Date.now() ? h("span", { class: "cell-note" }, "again ", time(again.toISOString())) : null),
    said ? h("span", { class: "cell-note clamp reason", title: said }, said) : null,
  );
}

/** Partitions of a run that is over. */
export function reportTable() {
  return table({
    caption: "Partitions of the run",
    key: (one) => one.name,
    filter: "Filter partitions",
    columns: [
      { key: "name", label: "Partition", header: true, sortable: true, class: "col-name" },
      { key: "status", label: "Status", sortable: true, class: "col-outcome", cell: outcome },
      { key: "attempts", label: "Attempts", numeric: true, sortable: true, cell: (one) => count(one.attempts) },
      { key: "extracted", label: "Read", numeric: true, sortable: true, value: (one) => one.rows?.extracted, cell: (one) => count(one.rows?.extracted) },
      { key: "loaded", label: "Loaded", numeric: true, sortable: true, value: (one) => one.rows?.loaded, cell: (one) => count(one.rows?.loaded) },
      { key: "quarantined", label: "Quarantined", numeric: true, sortable: true, value: (one) => one.rows?.quarantined, cell: (one) => quarantined({ quarantined: one.rows?.quarantined }) },
      { key: "cursor", label: "Loaded up to", class: "col-cursor", value: (one) => one.cursor_to, cell: cursors },
      { key: "worker", label: "Worker", numeric: true, sortable: true, value: (one) => one.worker?.peak_memory_bytes, cell: worker },
    ],
  });
}

function outcome(one) {
  return h(
    "div",
    { class: "cell-lines" },
    h("span", { class: "cell-line" }, badge(one.status)),
    one.error ? h("span", { class: "cell-note clamp reason", title: one.error.message }, reasonOf(one)) : null,
  );
}

// The row names the partition, and the page the pipeline.
function reasonOf({ name, error }) {
  const named = `, partition ${name}, `;
  const at = error.message.indexOf(named);
  return at < 0 ? error.message : error.message.slice(at + named.length);
}

function cursors(one) {
  const from = one.cursor_from;
  return h(
    "div",
    { class: "cell-lines" },
    one.cursor_to ? h("code", {}, one.cursor_to) : h("span", { class: "quiet" }, "nothing"),
    from && from !== one.cursor_to ? h("span", { class: "cell-note" }, "after ", h("code", {}, from)) : null,
  );
}

function worker(one) {
  if (!one.worker) return "–";
  return h(
    "div",
    { class: "cell-lines cell-end" },
    h("span", { title: "The most memory of any of its workers" }, bytes(one.worker.peak_memory_bytes)),
    h("span", { class: "cell-note", title: "CPU time of all its workers" }, `${duration(one.worker.cpu_ms / 1000)} CPU`),
  );
}

function quarantined(one) {
  return one.quarantined ? h("span", { class: "toned tone-warn" }, count(one.quarantined)) : count(one.quarantined);
}

/** The ledgers of each partition. */
export function ledgerTable() {
  const number = (key) => ({ key, label: key, numeric: true, sortable: true, cell: (one) => count(one[key]) });
  return table({
    caption: "Ledgers by partition",
    key: (one) => one.name,
    layout: "scroll",
    columns: [
      { key: "name", label: "Partition", header: true, sortable: true, class: "col-name" },
      ...[INPUT[0], ...INPUT[1]].map(number),
      { key: "input", label: "Read", cell: (one) => verdict(one, INPUT, one) },
      ...[OUTPUT[0], ...OUTPUT[1]].map(number),
      { key: "output", label: "Made", cell: (one) => verdict(one, OUTPUT, one) },
    ],
  });
}
