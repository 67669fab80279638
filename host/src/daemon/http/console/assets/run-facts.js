// What a run says of itself in words and numbers: its errors, its figures, its facts.

import { pipelinePath } from "./address.js";
import { bytes, count, duration, h, plural, problem, time } from "./dom.js";

/** What made a run start, in words. */
export const TRIGGERS = { manual: "by hand", schedule: "by the schedule", dependency: "by a pipeline that goes before it", backfill: "as a backfill" };

/** What went wrong, the same of several partitions once; null if nothing did. */
export function errorsOf({ summary, report }) {
  const same = new Map();
  const add = (error, partition) => {
    const key = `${error.message}\n${error.next_step ?? ""}`;
    const known = same.get(key) ?? { error, partitions: [] };
    if (partition) known.partitions.push(partition);
    same.set(key, known);
  };
  if (report?.error) add(report.error, null);
  for (const partition of report?.partitions ?? []) if (partition.error) add(partition.error, partition.name);
  if (same.size === 0 && summary?.error && summary.status !== "interrupted") add({ message: summary.error, next_step: "Its log below has the rest." }, null);
  if (same.size === 0) return null;
  const found = [...same.values()];
  return [...found.slice(0, 4).map(shown), found.length > 4 ? h("p", { class: "quiet" }, `And ${plural(found.length - 4, "other error")}: see the partitions below.`) : null];
}

function shown({ error, partitions }) {
  const node = problem(error);
  const names = partitions.length > 5 ? `${partitions.slice(0, 5).join(", ")} and ${partitions.length - 5} more` : partitions.join(", ");
  if (partitions.length) node.prepend(h("p", { class: "quiet" }, partitions.length === 1 ? `Partition ${names}` : `Partitions ${names}`));
  if (error.details) node.append(h("details", {}, h("summary", {}, "Details"), h("pre", { class: "payload", tabindex: "0" }, error.details)));
  return node;
}

/** The numbers that count most. */
export function figuresOf({ current, summary, report }) {
  const figure = (label, value) => h("div", {}, h("dt", {}, label), h("dd", {}, value));
  if (current) {
    if (!current.started_at) return [];
    const sum = (key) => current.partitions.reduce((all, one) => all + (one[key] ?? 0), 0);
    const seconds = Math.max(0, (Date.now() - Date.parse(current.started_at)) / 1000);
    const over = current.partitions.filter((one) => ["succeeded", "failed", "cancelled"].includes(one.activity)).length;
    return [
      figure("running for", duration(seconds < 60 ? Math.round(seconds) : seconds)),
      figure("rows read", count(sum("extracted"))),
      figure("rows/s now", current.rate === null || current.rate === undefined ? "–" : count(Math.round(current.rate))),
      figure("loaded", count(sum("loaded"))),
      figure("quarantined", count(sum("quarantined"))),
      figure("read", bytes(sum("bytes"))),
      figure("partitions done", `${count(over)} of ${count(current.partitions.length)}`),
    ];
  }
  const rows = report?.rows ?? {};
  const extracted = rows.extracted ?? summary.extracted;
  const seconds = report?.seconds ?? summary.seconds;
  const rate = report?.rows_per_second ?? (extracted && seconds ? extracted / seconds : null);
  return [
    figure("took", duration(seconds)),
    figure("rows read", count(extracted)),
    figure("rows/s", rate === null || rate === undefined ? "–" : count(Math.round(rate))),
    figure(report?.dry_run ? "would load" : "loaded", count(rows.loaded ?? summary.loaded)),
    figure("quarantined", count(rows.quarantined ?? summary.quarantined)),
    report ? figure("written", bytes(report.bytes)) : null,
    figure("attempts", count(report?.attempts ?? summary.attempts)),
  ].filter(Boolean);
}

/** Everything else that is one line. */
export function factsOf({ current, summary, report }) {
  const one = current ?? summary;
  const fact = (label, value, wide) => (value ? h("div", { class: wide ? "facts-wide" : null }, h("dt", {}, label), h("dd", {}, value)) : null);
  const began = current ? current.started_at : summary.started_at;
  const backfill = (current ?? report)?.backfill;
  return [
    fact("Pipeline", h("a", { href: pipelinePath(one.pipeline) }, one.pipeline)),
    fact("Started", TRIGGERS[one.trigger] ?? one.trigger),
    fact("Due", one.scheduled_for ? time(one.scheduled_for) : null),
    fact("Began", began ? time(began) : null),
    fact("Ended", summary?.finished_at && !current ? time(summary.finished_at) : null),
    fact("Kind", report?.dry_run ? "dry run: nothing was written" : null),
    fact("Delivery", report?.delivery),
    backfill
      ? fact("Backfill", [
          "after ", h("code", {}, backfill.from), " up to ", h("code", {}, backfill.to),
          backfill.window ? `, in windows of ${backfill.window}` : "", `: ${count(backfill.windows_done)} of ${plural(backfill.windows, "window")} done`,
        ], true)
      : null,
    fact("Peak memory", report?.peak_memory_bytes ? [bytes(report.peak_memory_bytes), h("span", { class: "quiet" }, " of the whole process")] : null),
    fact("Quarantined", report?.rows?.quarantined ? h("a", { href: `${pipelinePath(one.pipeline)}?tab=dead-letters&run=${encodeURIComponent(one.run_id)}` }, `Show the ${plural(report.rows.quarantined, "dead letter")}`) : null),
  ];
}
