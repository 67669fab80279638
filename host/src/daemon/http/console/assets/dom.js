// Makes elements, and shows values as people read them. Text always becomes text nodes, never HTML.

const SVG = "http://www.w3.org/2000/svg";

/** An element. `props`: `class`, `dataset`, `style` (an object), functions as `onclick`, and attributes. */
export function h(tag, props, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** An element of SVG, with the same `props`. */
export function svg(tag, props, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

/** Puts children in place of those that are there. */
export function replace(node, ...children) {
  node.replaceChildren(...nodes(children));
  return node;
}

function fill(element, props, children) {
  const later = [];
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") {
      element.setAttribute("class", Array.isArray(value) ? value.filter(Boolean).join(" ") : value);
    } else if (name === "dataset") {
      for (const [key, text] of Object.entries(value)) {
        if (text !== null && text !== undefined) element.dataset[key] = text;
      }
    } else if (name === "style") {
      // The content security policy forbids the attribute, not the properties.
      for (const [key, text] of Object.entries(value)) {
        if (key.startsWith("--")) element.style.setProperty(key, text);
        else element.style[key] = text;
      }
    } else if (typeof value === "function") {
      element.addEventListener(name.replace(/^on/, "").toLowerCase(), value);
    } else if (name === "value" || name === "checked" || name === "indeterminate") {
      if (element.tagName === "OPTION" || element.tagName === "LI") element.setAttribute(name, value);
      else later.push([name, value]);
    } else {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  element.append(...nodes(children));
  // A select takes its value only once it has its options.
  for (const [name, value] of later) element[name] = value;
  return element;
}

function nodes(children) {
  return children
    .flat(Infinity)
    .filter((child) => child !== null && child !== undefined && child !== false && child !== true && child !== "")
    .map((child) => (child instanceof Node ? child : document.createTextNode(String(child))));
}

/** What stands where there is no value. */
export const NONE = "–";

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { maximumFractionDigits: 1, minimumFractionDigits: 0 });

/** A number of things: `12,345`. */
export function count(n) {
  return n === null || n === undefined ? NONE : whole.format(n);
}

/** `one run`, `12 runs`. */
export function plural(n, one, many = `${one}s`) {
  return `${count(n)} ${n === 1 ? one : many}`;
}

/** A size: `12.3 MiB`. */
export function bytes(n) {
  if (n === null || n === undefined) return NONE;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let size = n;
  let unit = 0;
  while (size >= 1024 && unit < units.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${short.format(size)} ${units[unit]}`;
}

/** A time that passes: `420 ms`, `3.2 s`, `4 min 5 s`, `2 h 10 min`, `3 d 4 h`. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  if (seconds < 0.0005) return "0 s";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 59.95) return `${short.format(seconds)} s`;
  const all = Math.round(seconds);
  const [size, big, small] = all < 3600 ? [60, "min", "s"] : all < 86400 ? [3600, "h", "min"] : [86400, "d", "h"];
  const part = size === 60 ? 1 : size === 3600 ? 60 : 3600;
  const rest = Math.floor((all % size) / part);
  return `${Math.floor(all / size)} ${big}${rest ? ` ${rest} ${small}` : ""}`;
}

/** How long ago, or in how long. */
export function relative(instant, now = Date.now()) {
  const seconds = Math.round((new Date(instant).getTime() - now) / 1000);
  const length = Math.abs(seconds);
  if (length < 5) return "now";
  const [size, unit] =
    length < 60 ? [1, "s"] : length < 3600 ? [60, "min"] : length < 2 * 86400 ? [3600, "h"] : [86400, "d"];
  const text = `${Math.floor(length / size)} ${unit}`;
  return seconds < 0 ? `${text} ago` : `in ${text}`;
}

const local = new Intl.DateTimeFormat("en-GB", {
  weekday: "short", year: "numeric", month: "short", day: "numeric",
  hour: "2-digit", minute: "2-digit", second: "2-digit", timeZoneName: "short",
});

/** An instant in the viewer's zone and in UTC. */
export function absolute(instant) {
  const date = new Date(instant);
  const here = local.format(date);
  return here.endsWith(" UTC") ? here : `${here} · ${date.toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

/**
 * An instant as relative text that stays fresh, with the absolute one on hover and focus.
 * `focus: false` where it lies in something that takes the focus itself.
 */
export function time(rfc3339, { focus = true } = {}) {
  const date = rfc3339 ? new Date(rfc3339) : null;
  if (!date || Number.isNaN(date.getTime())) return h("span", { class: "none" }, rfc3339 || NONE);
  const said = absolute(date);
  return h(
    "time",
    { datetime: rfc3339, title: said, tabindex: focus ? "0" : null, dataset: { live: "", absolute: said } },
    relative(date),
  );
}

setInterval(() => {
  const now = Date.now();
  for (const element of document.querySelectorAll("time[data-live]")) {
    const text = relative(element.dateTime, now);
    if (element.textContent !== text) element.textContent = text;
  }
}, 1000);

// Each state has its own shape, so that colour never says anything alone.
const SHAPES = {
  check: ["M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13Z", "m5 8.3 2.1 2.1L11.2 6"],
  cross: ["M5.2 1.5h5.6l3.7 3.7v5.6l-3.7 3.7H5.2l-3.7-3.7V5.2Z", "m5.6 5.6 4.8 4.8m0-4.8-4.8 4.8"],
  warning: ["M8 1.8 15 14H1Z", "M8 6.2v3.6m0 1.6v.6"],
  play: ["M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13Z", "M6.4 5.2 11 8l-4.6 2.8Z"],
  clock: ["M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13Z", "M8 4.4V8l2.6 1.6"],
  again: ["M13.6 8a5.6 5.6 0 1 1-1.8-4.1", "M12.4 1.2v3.1H9.3"],
  pause: ["M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13Z", "M6.3 5.4v5.2m3.4-5.2v5.2"],
  stop: ["M2 2h12v12H2Z", "M5.4 8h5.2"],
  slash: ["M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13Z", "m3.6 3.6 8.8 8.8"],
  dot: ["M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13Z", "M8 7.9v.2"],
  half: ["M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13Z", "M8 4v8"],
};

/** A small picture beside a word that says the same. */
export function icon(shape) {
  const [outline, inside] = SHAPES[shape] ?? SHAPES.dot;
  return svg(
    "svg",
    { class: "icon", viewBox: "0 0 16 16", width: 14, height: 14, "aria-hidden": "true", focusable: "false" },
    svg("path", { class: "icon-outline", d: outline }),
    svg("path", { class: "icon-inside", d: inside }),
  );
}

const STATES = {
  running: ["active", "play"], queued: ["wait", "clock"], waiting: ["wait", "clock"], retrying: ["warn", "again"],
  idle: ["calm", "dot"], paused: ["off", "pause"], disabled: ["off", "stop", "stopped"],
  parked: ["bad", "stop"], broken: ["bad", "warning"], overdue: ["warn", "clock"],
  succeeded: ["good", "check"], partial: ["warn", "half"], failed: ["bad", "cross"],
  cancelled: ["off", "slash"], interrupted: ["bad", "slash"], skipped: ["off", "slash"], missed: ["warn", "slash"],
  open: ["bad", "cross"], "half-open": ["warn", "half", "on trial"], closed: ["good", "check"],
  refused: ["bad", "cross"], failing: ["bad", "cross"], draining: ["warn", "clock"],
};

/** The colour's name of a state: `good`, `bad`, `warn`, `active`, `wait`, `calm` or `off`. */
export function tone(state) {
  return (STATES[state] ?? ["calm"])[0];
}

/** A state as word, shape and colour. `text` says it with another word. */
export function badge(state, text) {
  const [colour, shape, word] = STATES[state] ?? ["calm", "dot"];
  return h("span", { class: ["badge", `tone-${colour}`], dataset: { state } }, icon(shape), text ?? word ?? state);
}

/** What stands where nothing is: what that means and what to do next. */
export function empty(title, text, ...actions) {
  return h(
    "div",
    { class: "empty" },
    h("p", { class: "empty-title" }, title),
    text ? h("p", {}, text) : null,
    actions.length ? h("div", { class: "actions" }, actions) : null,
  );
}

/** An error of the API: what went wrong, what to do next, and the mistakes of a configuration. */
export function problem(error) {
  const problems = error?.problems ?? [];
  const nextStep = error?.nextStep ?? error?.next_step;
  return h(
    "div",
    { class: "problem", role: "alert" },
    h("p", { class: "problem-message" }, icon("cross"), h("span", {}, error?.message ?? String(error))),
    nextStep ? h("p", { class: "problem-next" }, h("strong", {}, "Next step: "), nextStep) : null,
    problems.length
      ? h(
          "ul",
          { class: "problem-list" },
          problems.map((one) =>
            h(
              "li",
              {},
              h("code", {}, `${one.file}:${one.line}:${one.column}`),
              one.key ? [" ", h("code", {}, one.key)] : null,
              ` ${one.message}`,
              one.fix ? h("span", { class: "problem-fix" }, one.fix) : null,
            ),
          ),
        )
      : null,
  );
}

/** Grey bars of about the size of what comes, so that nothing jumps when it is there. */
export function skeleton(lines = 6) {
  return h(
    "div",
    { class: "skeleton", "aria-hidden": "true" },
    Array.from({ length: lines }, () => h("span", { class: "skeleton-line" })),
  );
}
