// Draws what hangs together: the pipelines before and after one, and the stages that rows go through.

import { pipelinePath } from "./address.js";
import { badge, count, h, replace, svg } from "./dom.js";

/**
 * `{node, close()}`: pipelines that go before `name` and after it, layer by layer. `pipelines` are all there are.
 * The boxes are links; only the lines between them are drawn.
 */
export function graph(pipelines, name) {
  const known = new Map(pipelines.map((pipeline) => [pipeline.name, pipeline]));
  const before = (one) => known.get(one)?.depends_on ?? [];
  const after = (one) => pipelines.filter((pipeline) => pipeline.depends_on.includes(one)).map((pipeline) => pipeline.name);
  const ancestors = reach(name, before);
  const descendants = reach(name, after);
  const all = new Set([...ancestors, name, ...descendants]);
  const layers = layered([...all], (one) => before(one).filter((other) => all.has(other)));

  const alone = all.size === 1;
  const boxes = new Map();
  const columns = layers.map((names) => h("ul", { class: "graph-layer" }, names.map((one) => {
    const pipeline = known.get(one);
    const inside = [h("span", { class: "graph-name" }, one), pipeline ? badge(pipeline.state) : badge("missed", "does not exist")];
    const box = pipeline && one !== name
      ? h("a", { class: "graph-box", href: pipelinePath(one) }, inside)
      : h("div", { class: ["graph-box", one === name && "graph-here"] }, inside);
    boxes.set(one, box);
    return h("li", {}, box);
  })));
  const lines = svg("svg", { class: "graph-lines", "aria-hidden": "true", focusable: "false" });
  const field = h("div", { class: "graph-field" }, lines, columns);
  const node = h(
    "div",
    { class: "graph" },
    h("p", { class: "quiet" }, sentence(name, before(name), after(name))),
    alone ? null : h("div", { class: "graph-region", role: "region", "aria-label": "Graph of the dependencies", tabindex: "0" }, field),
  );

  const draw = () => {
    const frame = field.getBoundingClientRect();
    lines.setAttribute("width", field.scrollWidth);
    lines.setAttribute("height", field.scrollHeight);
    const paths = [];
    for (const one of all) {
      for (const other of before(one)) {
        if (boxes.has(other)) paths.push(edge(boxes.get(other).getBoundingClientRect(), boxes.get(one).getBoundingClientRect(), frame));
      }
    }
    replace(lines, paths);
  };
  const observer = new ResizeObserver(draw);
  observer.observe(field);
  return { node, close: () => observer.disconnect() };
}

function edge(from, to, frame) {
  const across = to.left >= from.right;
  const [x1, y1, x2, y2] = across
    ? [from.right, from.top + from.height / 2, to.left, to.top + to.height / 2]
    : [from.left + from.width / 2, from.bottom, to.left + to.width / 2, to.top];
  const [a, b, c, d] = [x1 - frame.left, y1 - frame.top, x2 - frame.left, y2 - frame.top];
  const middle = across ? (a + c) / 2 : (b + d) / 2;
  const curve = across ? `M${a} ${b}C${middle} ${b} ${middle} ${d} ${c - 5} ${d}` : `M${a} ${b}C${a} ${middle} ${c} ${middle} ${c} ${d - 5}`;
  const head = across ? `M${c - 7} ${d - 4}L${c - 1} ${d}L${c - 7} ${d + 4}z` : `M${c - 4} ${d - 7}L${c} ${d - 1}L${c + 4} ${d - 7}z`;
  return [svg("path", { class: "graph-edge", d: curve }), svg("path", { class: "graph-head", d: head })];
}

function reach(from, next) {
  const found = new Set();
  const open = [...next(from)];
  while (open.length) {
    const one = open.pop();
    if (one === from || found.has(one)) continue;
    found.add(one);
    open.push(...next(one));
  }
  return found;
}

// Each in the layer behind the last of those before it.
function layered(names, before) {
  const depth = new Map();
  const depthOf = (name, trail = new Set()) => {
    if (depth.has(name)) return depth.get(name);
    // The daemon refuses circles; a picture of one must end all the same.
    if (trail.has(name)) return 0;
    const inner = new Set(trail).add(name);
    const found = Math.max(0, ...before(name).map((other) => depthOf(other, inner) + 1));
    depth.set(name, found);
    return found;
  };
  const layers = [];
  for (const name of [...names].sort()) (layers[depthOf(name)] ??= []).push(name);
  for (let index = 1; index < layers.length; index += 1) {
    const place = new Map(layers[index - 1].map((name, at) => [name, at]));
    const middle = (name) => {
      const places = before(name).map((other) => place.get(other)).filter((at) => at !== undefined);
      return places.length ? places.reduce((sum, at) => sum + at, 0) / places.length : Infinity;
    };
    const weight = new Map(layers[index].map((name) => [name, middle(name)]));
    layers[index].sort((a, b) => weight.get(a) - weight.get(b) || a.localeCompare(b));
  }
  return layers.filter(Boolean);
}

function sentence(name, before, after) {
  const first = before.length ? `${name} runs after ${before.join(", ")}.` : `${name} waits for no other pipeline.`;
  const second = after.length ? `${after.join(", ")} ${after.length === 1 ? "runs" : "run"} after it.` : "No pipeline waits for it.";
  return `${first} ${second}`;
}

/** The three stages, with the rows that go in and out of each. `ledger` is null where nothing is known yet. */
export function stages(pipeline, ledger) {
  const n = (key) => (ledger ? count(ledger[key]) : "–");
  const flow = (key, word) => h(
    "li",
    { class: "flow", "aria-hidden": "true" },
    h("span", { class: "flow-count" }, n(key)),
    svg("svg", { class: "flow-arrow", viewBox: "0 0 24 12", width: 24, height: 12, focusable: "false" }, svg("path", { d: "M1 6h20m-5-5 5 5-5 5" })),
    h("span", { class: "flow-word" }, word),
  );
  return h(
    "ol",
    { class: "stages" },
    stage("Extract", pipeline.route ? `from ${pipeline.route.source}` : null, null, [["good", "rows read", n("extracted"), ledger?.extracted]]),
    flow("extracted", "read"),
    stage("Transform", pipeline.plugin ? ["by the plugin ", h("code", {}, pipeline.plugin)] : null, ["in", n("extracted")], [
      ["good", "transformed", n("transformed"), ledger?.transformed],
      ["off", "filtered", n("filtered"), ledger?.filtered],
      ["bad", "rejected", n("rejected"), ledger?.rejected],
    ]),
    flow("emitted", "made"),
    stage("Load", pipeline.route ? `into ${pipeline.route.sink}` : null, ["in", n("emitted")], [
      ["good", "loaded", n("loaded"), ledger?.loaded],
      ["off", "superseded", n("superseded"), ledger?.superseded],
      ["bad", "refused", n("refused"), ledger?.refused],
    ]),
  );
}

function stage(title, text, into, fates) {
  const sum = fates.reduce((all, [, , , n]) => all + (n ?? 0), 0);
  let left = 0;
  const bar = svg("svg", { class: "fates", width: "100%", height: 8, "aria-hidden": "true", focusable: "false" },
    svg("rect", { class: "fates-back", width: "100%", height: 8 }),
    sum ? fates.map(([tone, , , n]) => {
      const share = ((n ?? 0) / sum) * 100;
      // What is there at all is seen.
      const wide = n > 0 ? Math.max(share, 0.6) : 0;
      const part = svg("rect", { class: `fate fate-${tone}`, x: `${left}%`, width: `${wide}%`, height: 8 });
      left += share;
      return part;
    }) : null);
  return h(
    "li",
    { class: "stage" },
    h("h3", {}, title),
    h("p", { class: "quiet stage-text" }, text ?? "–"),
    bar,
    h(
      "dl",
      { class: "stage-rows" },
      into ? h("div", {}, h("dt", {}, into[0]), h("dd", {}, into[1])) : null,
      fates.map(([tone, word, shown, n]) => h(
        "div",
        { class: n && tone === "bad" ? "toned tone-bad" : null },
        h("dt", {}, h("span", { class: `fate-key fate-${tone}`, "aria-hidden": "true" }), word),
        h("dd", {}, shown),
      )),
    ),
  );
}

