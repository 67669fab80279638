// What stands around every page: theme, keys, sign-out, whether the daemon is heard, and the tip with a time.

import { session, signOut } from "./api.js";
import { h, icon, replace } from "./dom.js";
import { navigate } from "./router.js";

const THEMES = ["auto", "light", "dark"];

export function startShell() {
  const theme = h("button", { type: "button", class: "button-quiet", onclick: nextTheme });
  const connection = h("span", { class: "connection tool-signed-in", dataset: { connection: "" } });
  const keys = h("button", { type: "button", class: "button-quiet button-icon tool-signed-in tool-keys", title: "Keys (?)", "aria-label": "Keys", "aria-haspopup": "dialog", onclick: showKeys }, "?");
  const out = h("button", { type: "button", class: "button-quiet tool-signed-in", hidden: true, onclick: signOut }, "Sign out");
  replace(document.getElementById("shell-tools"), connection, theme, keys, out);

  function nextTheme() {
    const next = THEMES[(THEMES.indexOf(chosen()) + 1) % THEMES.length];
    store(next);
    if (next === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = next;
    nameTheme();
  }

  function nameTheme() {
    const now = chosen();
    const next = THEMES[(THEMES.indexOf(now) + 1) % THEMES.length];
    replace(theme, `Theme: ${now}`);
    theme.title = `Change to ${next}`;
  }

  nameTheme();
  document.addEventListener("keydown", onKey);
  startTip();
  return {
    /** After it is known who is signed in. */
    signedIn() {
      out.hidden = !(session()?.token_needed && session()?.signed_in);
    },
    /** `open` or `lost`: whether events come. */
    connection(state) {
      if (state === "open") {
        replace(connection, h("span", { class: "toned tone-good" }, icon("check")), h("span", { class: "connection-word" }, "live"));
        connection.title = "Changes are shown as they happen.";
        replace(document.getElementById("notices"));
      } else {
        replace(connection, h("span", { class: "toned tone-warn" }, icon("warning")), h("span", { class: "connection-word" }, "lost"));
        connection.title = "The daemon is not heard.";
        replace(
          document.getElementById("notices"),
          h("div", { class: "shell-notice" }, icon("warning"), "Connection lost. What you see may be old; it is tried again and again."),
        );
      }
    },
  };
}

function chosen() {
  const theme = document.documentElement.dataset.theme;
  return THEMES.includes(theme) ? theme : "auto";
}

function store(theme) {
  try {
    localStorage.setItem("theme", theme);
  } catch {
    // It holds until the page goes, then.
  }
}

const KEYS = [
  [["/"], "to the filter of the page"],
  [["g", "o"], "to the overview"],
  [["g", "r"], "to the runs"],
  [["g", "s"], "to the servers"],
  [["g", "p"], "to the plugins"],
  [["g", "a"], "to the audit log"],
  [["r"], "on a pipeline's page: run it"],
  [["?"], "these keys"],
  [["Esc"], "closes a dialog"],
];

const PLACES = { o: "/", r: "/runs", s: "/servers", p: "/plugins", a: "/audit" };

let goes = 0;

function onKey(event) {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (event.target.closest?.("input:not([type=checkbox], [type=radio]), select, textarea, [contenteditable]")) return;
  if (document.querySelector("dialog[open]") || document.body.dataset.page === "login") return;
  const going = Date.now() - goes < 1500;
  goes = 0;
  if (going && PLACES[event.key]) navigate(PLACES[event.key]);
  else if (event.key === "g") {
    goes = Date.now();
    return;
  } else if (event.key === "/") {
    const field = [...document.querySelectorAll("main [data-filter]")].find((one) => one.offsetParent);
    if (!field) return;
    field.focus();
    field.select();
  } else if (event.key === "?") showKeys();
  // A button names its key: <button data-key="r">.
  else {
    const button = /^[a-z]$/.test(event.key) ? document.querySelector(`main [data-key="${event.key}"]`) : null;
    if (!button || button.disabled) return;
    button.focus();
    button.click();
  }
  event.preventDefault();
}

function showKeys() {
  const before = document.activeElement;
  const dialog = h(
    "dialog",
    { "aria-labelledby": "keys-title", onclose: () => { dialog.remove(); before?.focus?.(); } },
    h("div", { class: "dialog-head" }, h("h2", { id: "keys-title" }, "Keys")),
    h(
      "div",
      { class: "dialog-body" },
      h("dl", { class: "keys" }, KEYS.map(([keys, does]) => [
        h("dt", {}, keys.map((key, at) => [at ? " then " : null, h("kbd", {}, key)])),
        h("dd", {}, does),
      ])),
    ),
    h("div", { class: "dialog-actions" }, h("button", { type: "button", autofocus: true, onclick: () => dialog.close() }, "Close")),
  );
  document.body.append(dialog);
  dialog.showModal();
}

/** The absolute time of what has the focus; the mouse has the title. */
function startTip() {
  let tip = null;
  const hide = () => {
    tip?.remove();
    tip = null;
  };
  document.addEventListener("focusin", (event) => {
    hide();
    const target = event.target;
    if (!target.matches?.(":focus-visible")) return;
    const time = target.matches("time") ? target : target.querySelector?.(":scope > time, :scope > * > time");
    if (!time?.dataset.absolute || !target.matches("time, a")) return;
    tip = h("div", { class: "tip", role: "tooltip" }, time.dataset.absolute);
    (target.closest("dialog") ?? document.body).append(tip);
    const at = time.getBoundingClientRect();
    const below = at.bottom + 6 + tip.offsetHeight < innerHeight;
    tip.style.left = `${Math.max(8, Math.min(at.left, innerWidth - tip.offsetWidth - 8))}px`;
    tip.style.top = `${below ? at.bottom + 6 : at.top - 6 - tip.offsetHeight}px`;
  });
  document.addEventListener("focusout", hide);
  addEventListener("scroll", hide, { passive: true, capture: true });
  document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
}
