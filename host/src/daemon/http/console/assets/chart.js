// Draws how runs went: the small chart of a row in a list, and the history of a pipeline.

import { absolute, count, duration, h, plural, replace, svg, tone } from "./dom.js";
import { compact, every, ticks } from "./scale.js";

const PITCH = 5;
const BAR = 4;
const MOST = 30;
const HEIGHT = 22;
const FOOT = 6;

/**
 * The last runs as bars, oldest first: the height is how long each took. What did not succeed has a mark of its own
 * shape below its bar, and an outline where it was stopped, so that colour says nothing alone.
 */
export function sparkline(recent) {
  const runs = (recent ?? []).slice(-MOST);
  const width = MOST * PITCH;
  const longest = Math.max(...runs.map((run) => run.seconds ?? 0), 0.001);
  // The newest is always at the right edge, also if there are few.
  const first = (MOST - runs.length) * PITCH;
  const bars = runs.map((run, index) => {
    const left = first + index * PITCH;
    const height = run.seconds === null ? 3 : Math.max(2, (run.seconds / longest) * HEIGHT);
    const hollow = ["cancelled", "interrupted", "running"].includes(run.status);
    return svg(
      "g",
      { class: `spark-run tone-${tone(run.status)}` },
      svg("rect", { class: "spark-hit", x: left, y: 0, width: PITCH, height: HEIGHT + FOOT }),
      hollow
        ? svg("rect", { class: "spark-bar hollow", x: left + 0.5, y: HEIGHT - height + 0.5, width: BAR - 1, height: Math.max(1, height - 1) })
        : svg("rect", { class: "spark-bar", x: left, y: HEIGHT - height, width: BAR, height }),
      mark(run.status, left + BAR / 2, HEIGHT + FOOT / 2 + 0.5),
      svg("title", {}, titleOf(run)),
    );
  });
  return svg(
    "svg",
    {
      class: "sparkline", role: "img", "aria-label": inWords(runs), focusable: "false",
      width, height: HEIGHT + FOOT, viewBox: `0 0 ${width} ${HEIGHT + FOOT}`,
    },
    svg("line", { class: "spark-base", x1: 0, x2: width, y1: HEIGHT + 0.5, y2: HEIGHT + 0.5 }),
    bars,
  );
}

/** The mark of a status, around a point; none for what succeeded. */
export function mark(status, x, y, size = 2) {
  const shapes = {
    failed: `M${x - size} ${y - size}l${2 * size} ${2 * size}m0 ${-2 * size}l${-2 * size} ${2 * size}`,
    partial: `M${x} ${y - size}l${size} ${2 * size}h${-2 * size}z`,
    interrupted: `M${x} ${y - size}l${size} ${size}l${-size} ${size}l${-size} ${-size}z`,
    cancelled: `M${x - size} ${y}h${2 * size}`,
  };
  if (!shapes[status]) return null;
  return svg("path", { class: ["mark", ["failed", "cancelled"].includes(status) && "mark-line"], d: shapes[status] });
}

function titleOf(run) {
  const said = [run.status];
  if (run.seconds !== null) said.push(`after ${duration(run.seconds)}`);
  if (run.extracted !== null) said.push(`${plural(run.extracted, "row")} read`);
  if (run.loaded !== null) said.push(`${count(run.loaded)} loaded`);
  if (run.quarantined) said.push(`${count(run.quarantined)} quarantined`);
  return `${absolute(run.started_at)}\n${said.join(", ")}`;
}

function inWords(runs) {
  if (runs.length === 0) return "No runs yet";
  const counts = new Map();
  for (const run of runs) counts.set(run.status, (counts.get(run.status) ?? 0) + 1);
  const parts = [...counts].map(([status, n]) => `${n} ${status}`);
  const last = runs[runs.length - 1];
  const took = last.seconds === null ? "" : ` after ${duration(last.seconds)}`;
  return `Last ${plural(runs.length, "run")}: ${parts.join(", ")}. The newest ${last.status}${took}.`;
}

// Each panel of the history has an axis of its own: the three have nothing in common but the runs.
const PANELS = [
  { key: "rate", label: "Rows read per second", height: 110, kind: "line", show: (n) => `${count(Math.round(n))} rows/s` },
  { key: "seconds", label: "Duration", height: 110, kind: "bars", time: true, show: (n) => duration(n) },
  { key: "quarantined", label: "Rows quarantined", height: 80, kind: "bars", whole: true, show: (n) => `${count(n)} quarantined` },
];
const GAP = 34;
const LEFT = 56;
const RIGHT = 10;
const AXIS = 24;
const NARROWEST = 260;

/** Rows read per second, as a run's numbers give it. */
export function rate(run) {
  if (run.extracted === null || run.extracted === undefined || !run.seconds) return null;
  return run.extracted / run.seconds;
}

/**
 * `{node, update(runs)}`: rows/s, duration and quarantined rows of runs, which come newest first. A slider below the
 * chart goes from run to run, by keyboard, finger or mouse, and the line under it says the numbers of that run.
 */
export function history(runs) {
  let shown = [];
  let points = [];
  let at = -1;
  let width = 0;

  const plot = h("div", { class: "history-plot" });
  const slider = h("input", {
    type: "range", min: 0, step: 1, "aria-label": "Run of the chart", class: "history-slider", oninput: () => choose(Number(slider.value)),
  });
  const readout = h("p", { class: "history-readout" });
  const node = h("figure", { class: "history" }, plot, slider, readout, legend());

  new ResizeObserver((entries) => {
    const now = Math.max(NARROWEST, Math.round(entries[0].contentRect.width));
    if (now === width) return;
    width = now;
    draw();
  }).observe(plot);
  plot.addEventListener("pointermove", (event) => {
    if (points.length) choose(nearest(event.clientX - plot.getBoundingClientRect().left));
  });

  function nearest(x) {
    const step = (width - LEFT - RIGHT) / points.length;
    return Math.min(points.length - 1, Math.max(0, Math.floor((x - LEFT) / step)));
  }

  function xOf(index) {
    return LEFT + ((width - LEFT - RIGHT) / points.length) * (index + 0.5);
  }

  function choose(index) {
    if (index === at || !points[index]) return;
    at = index;
    tell();
  }

  function tell() {
    const run = points[at];
    if (!run) return replace(readout, "");
    const numbers = PANELS.filter((panel) => run[panel.key] !== null).map((panel) => panel.show(run[panel.key]));
    slider.value = String(at);
    slider.setAttribute("aria-valuetext", `${moment(run)}: ${[run.status, ...numbers].join(", ")}`);
    replace(
      readout,
      h("a", { href: `/runs/${encodeURIComponent(run.run_id)}` }, moment(run)),
      ` ${[run.status, ...numbers].join(" · ")}`,
    );
    const line = plot.querySelector(".history-cursor");
    line?.setAttribute("x1", xOf(at));
    line?.setAttribute("x2", xOf(at));
  }

  function draw() {
    if (!width) return;
    const height = PANELS.reduce((sum, panel) => sum + panel.height + GAP, 0) + AXIS;
    let top = 0;
    const panels = PANELS.map((panel) => {
      top += GAP;
      const drawn = drawPanel(panel, top);
      top += panel.height;
      return drawn;
    });
    replace(
      plot,
      svg(
        "svg",
        { role: "img", "aria-label": summary(points), width, height, viewBox: `0 0 ${width} ${height}`, focusable: "false" },
        panels,
        drawTimes(top),
        svg("line", { class: "history-cursor", x1: -1, x2: -1, y1: GAP / 2, y2: top }),
      ),
    );
    tell();
  }

  function drawPanel(panel, top) {
    const values = points.map((run) => run[panel.key]);
    const most = Math.max(0, ...values.filter((value) => value !== null));
    const steps = ticks(most, 3, panel);
    const highest = steps[steps.length - 1];
    const yOf = (value) => top + panel.height - (value / highest) * panel.height;
    const step = (width - LEFT - RIGHT) / Math.max(1, points.length);
    const bar = Math.max(1.5, Math.min(14, step - 1.5));
    const parts = [];
    let stretch = [];
    const flush = () => {
      if (stretch.length > 1) parts.push(svg("polyline", { class: "history-line", points: stretch.join(" ") }));
      stretch = [];
    };
    points.forEach((run, index) => {
      const value = run[panel.key];
      if (value === null) {
        // It is seen that there was a run, although nobody knows how long it took.
        if (panel.key === "seconds") parts.push(svg("g", { class: `tone-${tone(run.status)}` }, mark(run.status, xOf(index), top + panel.height - 5, 3)));
        return flush();
      }
      const [x, y] = [xOf(index), yOf(value)];
      if (panel.kind === "line") {
        stretch.push(`${x.toFixed(1)},${y.toFixed(1)}`);
        parts.push(svg("circle", { class: "history-dot", cx: x, cy: y, r: step > 6 ? 2.5 : 1.2 }));
      } else if (value > 0) {
        const tall = Math.max(1.5, top + panel.height - y);
        const colour = panel.key === "seconds" ? tone(run.status) : "warn";
        parts.push(svg(
          "g",
          { class: `tone-${colour}` },
          svg("rect", { class: "history-bar", x: x - bar / 2, y: top + panel.height - tall, width: bar, height: tall }),
          panel.key === "seconds" ? mark(run.status, x, top + panel.height - tall - 6, 3) : null,
        ));
      }
    });
    flush();
    return svg(
      "g",
      {},
      svg("text", { class: "history-label", x: 0, y: top - 12 }, panel.label),
      steps.map((value) => svg(
        "g",
        {},
        svg("line", { class: value === 0 ? "history-base" : "history-grid", x1: LEFT, x2: width - RIGHT, y1: yOf(value), y2: yOf(value) }),
        svg("text", { class: "history-tick", x: LEFT - 6, y: yOf(value) + 4, "text-anchor": "end" }, panel.time ? duration(value) : compact(value)),
      )),
      parts,
    );
  }

  // Runs stand side by side, so the axis names the time of some of them.
  function drawTimes(top) {
    const most = Math.max(2, Math.floor((width - LEFT - RIGHT) / 130));
    return every(points.length, most).map((index) => {
      const x = xOf(index);
      const edge = x < LEFT + 40 ? "start" : x > width - RIGHT - 40 ? "end" : "middle";
      const from = edge === "start" ? LEFT : edge === "end" ? width - RIGHT : x;
      return svg(
        "g",
        {},
        svg("line", { class: "history-base", x1: x, x2: x, y1: top, y2: top + 4 }),
        svg("text", { class: "history-tick", x: from, y: top + 18, "text-anchor": edge }, moment(points[index])),
      );
    });
  }

  function update(newest) {
    const known = points[at]?.run_id;
    shown = newest;
    points = [...shown].reverse().map((run) => ({ ...run, rate: rate(run), seconds: run.seconds ?? null, quarantined: run.quarantined ?? null }));
    const again = points.findIndex((run) => run.run_id === known);
    at = again >= 0 ? again : points.length - 1;
    slider.max = String(Math.max(0, points.length - 1));
    slider.disabled = points.length < 2;
    draw();
  }

  update(runs);
  return { node, update };
}

const brief = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });

function moment(run) {
  return brief.format(new Date(run.started_at));
}

function summary(points) {
  if (points.length === 0) return "No runs yet.";
  const said = [`History of ${plural(points.length, "run")}, from ${moment(points[0])} to ${moment(points[points.length - 1])}.`];
  for (const panel of PANELS) {
    const values = points.map((run) => run[panel.key]).filter((value) => value !== null);
    if (values.length === 0) continue;
    const sorted = [...values].sort((a, b) => a - b);
    said.push(`${panel.label}: lowest ${panel.show(sorted[0])}, median ${panel.show(sorted[Math.floor(sorted.length / 2)])}, highest ${panel.show(sorted[sorted.length - 1])}.`);
  }
  return `${said.join(" ")} The table below has each run.`;
}

function legend() {
  const entries = [["succeeded", "succeeded"], ["partial", "partial"], ["failed", "failed"], ["interrupted", "interrupted"], ["cancelled", "cancelled"]];
  return h(
    "figcaption",
    { class: "legend" },
    "One bar or point for each run, oldest at the left. Duration: ",
    h("span", { class: "legend-list" }, entries.map(([status, word]) => h(
      "span",
      { class: `legend-entry tone-${tone(status)}` },
      svg(
        "svg",
        { width: 14, height: 18, viewBox: "0 0 14 18", "aria-hidden": "true", focusable: "false" },
        svg("rect", { class: "history-bar", x: 4, y: 9, width: 6, height: 8 }),
        mark(status, 7, 4, 3),
      ),
      h("span", {}, word),
    ))),
  );
}
