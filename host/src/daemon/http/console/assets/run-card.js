// The run of a pipeline that counts now: the one that goes on, fresh each second, or else the last one. It has its place
// whatever happens, so that nothing moves when a run begins or ends.

import { runPath } from "./address.js";
import { rate } from "./chart.js";
import { badge, bytes, count, duration, h, icon, plural, replace, time } from "./dom.js";
import { TRIGGERS } from "./run-facts.js";
import { followRun } from "./watch.js";

/** `{node, update(pipeline)}`. `progress(run)` is told each second, `ended()` when the run is over. */
export function runCard(context, { ended, progress }) {
  const link = h("a", { class: "cell-name" });
  const head = h("div", { class: "live-head" });
  const figures = h("dl", { class: "figures" });
  const trouble = h("p", { class: "live-trouble" });
  const node = h("section", { class: "card live-run", "aria-label": "Run" }, head, figures, trouble);
  let followed = null;
  let following = null;
  context.onLeave(() => following?.close());

  function name(text, runId) {
    if (link.textContent !== text) replace(link, text);
    link.setAttribute("href", runPath(runId));
    return link;
  }

  function showCurrent(run) {
    const sum = (key) => run.partitions.reduce((all, partition) => all + (partition[key] ?? 0), 0);
    const over = run.partitions.filter((partition) => ["succeeded", "failed", "cancelled"].includes(partition.activity)).length;
    const retrying = run.partitions.filter((partition) => partition.activity === "retrying");
    const state = run.started_at ? "running" : "queued";
    said(head, [state, run.stopping, run.run_id], () => [
      name("Current run", run.run_id), badge(state, run.stopping ? "stopping" : undefined),
      h("span", {}, TRIGGERS[run.trigger] ?? run.trigger, run.started_at ? [", since ", time(run.started_at)] : null),
    ]);
    replace(figures, run.started_at
      ? [
          figure("rows read", count(sum("extracted"))),
          figure("rows/s", run.rate === null || run.rate === undefined ? "–" : count(Math.round(run.rate))),
          figure("loaded", count(sum("loaded"))),
          figure("quarantined", count(sum("quarantined"))),
          figure("read", bytes(sum("bytes"))),
          figure("partitions done", `${count(over)} of ${count(run.partitions.length)}`),
        ]
      : figure("waits for", h("span", { class: "live-waits" }, run.waits_for ?? "its turn")));
    const names = retrying.slice(0, 3).map((one) => `${one.name} (${one.reason ?? "no reason given"})`).join("; ");
    tell(retrying.length ? "warn" : null, "again", `${plural(retrying.length, "partition")} tried again: ${names}${retrying.length > 3 ? " …" : ""}`);
  }

  function showLast(run, state) {
    if (!run) {
      said(head, "none", () => h("span", { class: "cell-name" }, "No run yet"));
      replace(figures);
      const next = state === "broken" ? "It can run once its configuration is in order." : "Start the first one with Run above, or give it a schedule.";
      return said(trouble, next, () => h("span", { class: "quiet" }, next));
    }
    said(head, [run.run_id, run.status], () => [
      name("Last run", run.run_id), badge(run.status),
      h("span", {}, TRIGGERS[run.trigger] ?? run.trigger, ", ", time(run.finished_at ?? run.started_at)),
    ]);
    const speed = rate(run);
    replace(
      figures,
      figure("rows read", count(run.extracted)),
      figure("rows/s", speed === null ? "–" : count(Math.round(speed))),
      figure("loaded", count(run.loaded)),
      figure("quarantined", count(run.quarantined)),
      figure("took", duration(run.seconds)),
      figure("attempts", count(run.attempts)),
    );
    return tell(run.error ? "bad" : null, "cross", run.error);
  }

  function tell(tone, shape, text) {
    said(trouble, [tone, text], () => (tone ? h("span", { class: `toned tone-${tone} clamp`, title: text }, icon(shape), ` ${text}`) : null));
  }

  return {
    node,
    update(pipeline) {
      const run = pipeline.current_run;
      node.classList.toggle("live-now", Boolean(run));
      if (!run) showLast(pipeline.last_run, pipeline.state);
      if ((run?.run_id ?? null) === followed) return;
      following?.close();
      following = null;
      followed = run?.run_id ?? null;
      if (!run) return;
      showCurrent(run);
      following = followRun(run.run_id, {
        progress: (now) => {
          showCurrent(now);
          progress(now);
        },
        end: ended,
      });
    },
  };
}

function figure(label, value) {
  return h("div", {}, h("dt", {}, label), h("dd", {}, value));
}

// Made anew only if it says something else, so that a link keeps the focus.
function said(node, what, make) {
  const text = JSON.stringify(what);
  if (node.dataset.said === text) return;
  node.dataset.said = text;
  replace(node, make());
}
