// Shows a log: its last lines and those that come, by level and text. It stays at the end until somebody scrolls up.

import { get } from "./api.js";
import { absolute, h, plural, problem, replace } from "./dom.js";
import { watch } from "./watch.js";

const LEVELS = ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"];
const MOST = 2000;
const USUAL = new Set(["time", "level", "pipeline", "run_id", "partition", "attempt", "target", "message"]);

/**
 * `{node, close()}` of a pipeline's log, or of one run's. `live`: lines still come.
 */
export function logView({ pipeline, run = null, live = true, lines = 500 }) {
  let level = "INFO";
  let words = [];
  let following = live;
  let source = null;
  let waiting = [];
  let drawing = false;
  let shown = 0;
  let anew = true;
  // Each opening has a number, so that a late answer of an earlier one is left out.
  let opening = 0;

  const list = h("div", { class: ["log log-view", live ? null : "log-over"], role: "log", "aria-live": "off", "aria-label": run ? "Log of the run" : `Log of ${pipeline}`, tabindex: "0", onscroll: scrolled });
  const filter = h("input", {
    type: "search", placeholder: "Filter lines", autocomplete: "off", spellcheck: "false", dataset: { filter: "" }, "aria-keyshortcuts": "/",
    oninput: () => {
      words = filter.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
      for (const line of list.children) line.hidden = !matches(line.dataset.text ?? "");
      if (following) toEnd();
      tell();
    },
  });
  const choice = h(
    "select",
    {
      value: level,
      onchange: () => {
        level = choice.value;
        open();
      },
    },
    LEVELS.map((one) => h("option", { value: one }, one === "ERROR" ? "only ERROR" : `${one} and worse`)),
  );
  const follow = h("button", { type: "button", class: "button-small", "aria-pressed": String(following), onclick: () => setFollowing(!following) }, "Follow");
  const said = h("span", { class: "quiet log-said", role: "status" });
  const node = h(
    "div",
    { class: "log-box" },
    h(
      "div",
      { class: "toolbar" },
      h("label", { class: "field filter" }, h("span", { class: "visually-hidden" }, "Filter lines"), filter),
      h("label", { class: "field" }, h("span", {}, "Level"), choice),
      live ? follow : null,
      said,
    ),
    list,
  );

  function open() {
    opening += 1;
    const mine = opening;
    source?.close();
    anew = true;
    waiting = [];
    const query = new URLSearchParams({ level, lines: String(lines) });
    if (run) query.set("run", run);
    const path = `/api/v1/pipelines/${encodeURIComponent(pipeline)}/logs`;
    if (!live) {
      get(`${path}?${query}`).then(
        (answer) => mine === opening && take(answer.lines),
        (error) => mine === opening && replace(list, problem(error)),
      );
      return;
    }
    query.set("follow", "true");
    source = watch(`${path}?${query}`, {
      line: (line) => mine === opening && take([line]),
      // A stream that begins anew gives the last lines once more.
      connection: (state) => {
        if (state === "open" && mine === opening) {
          anew = true;
          waiting = [];
          draw();
        }
      },
    });
    draw();
  }

  function take(records) {
    for (const record of records) waiting.push(record);
    if (waiting.length > MOST) waiting = waiting.slice(-MOST);
    draw();
  }

  function draw() {
    if (drawing) return;
    drawing = true;
    requestAnimationFrame(() => {
      drawing = false;
      if (anew && (waiting.length || !live)) {
        replace(list);
        shown = 0;
        anew = false;
      }
      // Whoever reads further up is not disturbed: what comes waits.
      if (following || !live || shown === 0) {
        list.append(...waiting.map(lineOf));
        shown += waiting.length;
        waiting = [];
        while (list.childElementCount > MOST) list.firstElementChild.remove();
        // Of a run that is over the last lines say most.
        if (following || !live) toEnd();
      }
      tell();
    });
  }

  function lineOf(record) {
    const others = Object.entries(record).filter(([key]) => !USUAL.has(key));
    const where = [record.partition, record.attempt > 1 ? `#${record.attempt}` : null].filter(Boolean).join(" ");
    const fields = others.map(([key, value]) => `${key}=${typeof value === "string" ? value : JSON.stringify(value)}`).join(" ");
    const text = [record.level, where, record.message, fields, record.target].join(" ").toLowerCase();
    return h(
      "div",
      { class: `log-line log-${record.level.toLowerCase()}`, hidden: !matches(text), dataset: { text } },
      h("time", { class: "log-time", datetime: record.time, title: absolute(record.time) }, clock(record.time)),
      h("span", { class: "log-level" }, record.level),
      where ? h("span", { class: "log-where" }, where) : null,
      h("span", { class: "log-message" }, record.message, fields ? h("span", { class: "log-fields" }, ` ${fields}`) : null),
    );
  }

  function matches(text) {
    return words.every((word) => text.includes(word));
  }

  function tell() {
    if (list.childElementCount === 0) replace(list, h("p", { class: "log-nothing" }, anew && live ? "Waiting for lines …" : "No lines of this level."));
    const parts = [plural(list.querySelectorAll(".log-line:not([hidden])").length, "line")];
    if (waiting.length && !following) parts.push(`${plural(waiting.length, "new line")} below`);
    const text = parts.join(", ");
    if (said.textContent !== text) replace(said, text);
  }

  function scrolled() {
    if (!live) return;
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 24;
    if (atEnd !== following) setFollowing(atEnd, { move: false });
  }

  function setFollowing(wanted, { move = true } = {}) {
    following = wanted;
    follow.setAttribute("aria-pressed", String(following));
    if (following) {
      draw();
      if (move) toEnd();
    }
  }

  function toEnd() {
    list.scrollTop = list.scrollHeight;
  }

  open();
  return {
    node,
    close() {
      opening += 1;
      source?.close();
    },
  };
}

const local = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3 });

function clock(instant) {
  return local.format(new Date(instant));
}
