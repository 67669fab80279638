// Draws the attempts of each partition on one axis of time, with the waits between them. Each row opens to say it in words.

import { badge, duration, h, plural, replace, svg, time, tone } from "./dom.js";
import { mark } from "./chart.js";
import { ticks } from "./scale.js";

const HEIGHT = 18;

/** `{node, update(partitions)}`; each partition has `name` and `timeline`. */
export function timeline(partitions) {
  const rows = new Map();
  const axis = svg("svg", { class: "timeline-axis", width: "100%", height: 22, "aria-hidden": "true", focusable: "false" });
  const list = h("div", { class: "timeline-rows" });
  const node = h(
    "div",
    { class: "timeline" },
    h("div", { class: "timeline-row timeline-top" }, h("span", { class: "quiet" }, "since the run began"), axis, h("span", {})),
    list,
    legend(),
  );
  let marks = 5;
  let shown = partitions;

  new ResizeObserver((entries) => {
    const wanted = Math.max(2, Math.min(10, Math.floor(entries[0].contentRect.width / 90)));
    if (wanted === marks) return;
    marks = wanted;
    update(shown);
  }).observe(axis);

  function update(found) {
    shown = found;
    const now = Date.now();
    const attempts = found.flatMap((partition) => partition.timeline ?? []);
    const begin = Math.min(...attempts.map((attempt) => Date.parse(attempt.started_at)));
    const end = Math.max(...attempts.map((attempt) => endOf(attempt, now) + (attempt.wait_seconds ?? 0) * 1000));
    const span = Math.max(0.001, (end - begin) / 1000) || 1;
    const at = (instant) => Math.min(100, Math.max(0, ((instant - begin) / 1000 / span) * 100));

    const round = attempts.length ? ticks(span, marks, { time: true }).filter((one) => one <= span) : [];
    replace(axis, round.map((seconds) => {
      const x = (seconds / span) * 100;
      const edge = x < 4 ? "start" : x > 92 ? "end" : "middle";
      return [
        svg("line", { class: "history-base", x1: `${x}%`, x2: `${x}%`, y1: 17, y2: 22 }),
        svg("text", { class: "history-tick", x: `${x}%`, y: 13, "text-anchor": edge }, duration(seconds)),
      ];
    }).flat());

    for (const [name, row] of rows) {
      if (!found.some((partition) => partition.name === name)) {
        row.node.remove();
        rows.delete(name);
      }
    }
    for (const partition of found) {
      let row = rows.get(partition.name);
      if (!row) {
        row = newRow(partition.name);
        rows.set(partition.name, row);
        list.append(row.node);
      }
      row.update(partition.timeline ?? [], { at, now, lines: round.map((seconds) => (seconds / span) * 100) });
    }
  }

  update(partitions);
  return { node, update };
}

function endOf(attempt, now) {
  return attempt.ended_at ? Date.parse(attempt.ended_at) : now;
}

function newRow(name) {
  const track = svg("svg", { class: "timeline-track", width: "100%", height: HEIGHT, "aria-hidden": "true", focusable: "false" });
  const said = h("span", { class: "timeline-said" });
  const words = h("ol", { class: "timeline-words" });
  const node = h(
    "details",
    { class: "timeline-partition" },
    h("summary", { class: "timeline-row" }, h("span", { class: "timeline-name" }, name), track, said),
    words,
  );
  let told = "";

  function update(attempts, { at, now, lines }) {
    replace(track, lines.map((x) => svg("line", { class: "history-grid", x1: `${x}%`, x2: `${x}%`, y1: 0, y2: HEIGHT })), attempts.map((attempt) => bar(attempt, at, now)));
    const text = JSON.stringify(attempts);
    if (text === told) return;
    told = text;
    const last = attempts[attempts.length - 1];
    replace(said, last ? badge(last.outcome) : null, h("span", { class: "quiet" }, plural(attempts.length, "attempt")));
    replace(words, attempts.map((attempt) => inWords(attempt)));
  }

  return { node, update };
}

function bar(attempt, at, now) {
  const from = at(Date.parse(attempt.started_at));
  const end = endOf(attempt, now);
  const to = at(end);
  const parts = [];
  if (attempt.wait_seconds) {
    const until = at(end + attempt.wait_seconds * 1000);
    parts.push(svg("line", { class: "timeline-wait", x1: `${to}%`, x2: `${until}%`, y1: HEIGHT / 2, y2: HEIGHT / 2 }));
  }
  parts.push(svg(
    "rect",
    { class: ["timeline-bar", attempt.outcome === "running" && "timeline-open"], x: `${from}%`, width: `${Math.max(to - from, 0.1)}%`, y: 3, height: HEIGHT - 6, rx: 2 },
    svg("title", {}, `Attempt ${attempt.attempt}: ${attempt.outcome}${attempt.error ? `. ${attempt.error}` : ""}`),
  ));
  const sign = mark(attempt.outcome, 0, 0, 3);
  if (sign) parts.push(svg("svg", { x: `${to}%`, y: HEIGHT / 2, overflow: "visible", class: "timeline-mark" }, sign));
  return svg("g", { class: `tone-${tone(attempt.outcome)}` }, parts);
}

function inWords(attempt) {
  const seconds = (endOf(attempt, Date.now()) - Date.parse(attempt.started_at)) / 1000;
  const over = attempt.outcome !== "running";
  return h(
    "li",
    {},
    h("span", { class: "timeline-attempt" }, h("strong", {}, `Attempt ${attempt.attempt}`), badge(attempt.outcome), over ? h("span", {}, `after ${duration(seconds)}`) : null, h("span", { class: "quiet" }, "began ", time(attempt.started_at))),
    attempt.error ? h("p", { class: "timeline-error" }, attempt.error) : null,
    attempt.wait_seconds ? h("p", { class: "quiet" }, `Then it waited ${duration(attempt.wait_seconds)}.`) : null,
  );
}

function legend() {
  const entry = (className, word, inside) => h(
    "span",
    { class: `legend-entry ${className}` },
    svg("svg", { width: 22, height: 14, viewBox: "0 0 22 14", "aria-hidden": "true", focusable: "false" }, inside),
    h("span", {}, word),
  );
  const block = (extra) => [svg("rect", { class: "timeline-bar", x: 2, y: 2, width: 14, height: 10, rx: 2 }), extra];
  return h(
    "p",
    { class: "legend" },
    h(
      "span",
      { class: "legend-list" },
      entry("tone-good", "succeeded", block()),
      entry("tone-bad", "failed", block(mark("failed", 17, 7, 3))),
      entry("tone-active", "running", svg("rect", { class: "timeline-bar timeline-open", x: 2, y: 2, width: 14, height: 10, rx: 2 })),
      entry("tone-off", "waits for the next attempt", svg("line", { class: "timeline-wait", x1: 1, x2: 21, y1: 7, y2: 7 })),
    ),
  );
}
