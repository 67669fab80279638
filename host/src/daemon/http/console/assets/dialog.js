// Asks before something is done: what it will do, its options, and its outcome. And the short message afterwards.

import { h, problem, replace } from "./dom.js";

const STAYS = 12000;
let asked = 0;

/**
 * Opens a dialog, and gives its element. The browser keeps the focus inside, and Escape closes it.
 *
 * - `title`, `confirm`: what it does, as heading and as button.
 * - `says`: paragraphs, or a function that makes them anew after each change of a field.
 * - `fields`: nodes. `danger`: the button is red.
 * - `guard`: `{name}` to be typed, `{tick}` a sentence to be agreed to, null, or a function that gives one of them.
 * - `submit()`: does it. `{text, href, link}` of what it gives is the message afterwards; `{result}` is a node that
 *   the dialog shows instead. What it throws is shown in the dialog.
 * - `done(answer)`: called once it was done.
 */
export function ask({ title, says, fields = [], confirm, back = "Back", danger = false, guard = null, submit, done }) {
  asked += 1;
  const id = `dialog-${asked}`;
  const opener = document.activeElement;
  let sending = false;
  let guarding = null;
  let isAgreed = () => true;

  const lead = h("div", { class: "dialog-lead" });
  const guardPlace = h("div", { class: "dialog-guard", hidden: true });
  const outcome = h("div", { class: "dialog-outcome", tabindex: "-1" });
  const inside = h("fieldset", { class: "dialog-fields" }, fields, guardPlace);
  const yes = h("button", { type: "submit", class: danger ? "button-danger" : "button-primary" }, confirm);
  const no = h("button", { type: "button", onclick: () => dialog.close() }, back);
  const form = h(
    "form",
    {
      novalidate: true,
      oninput: fresh,
      onchange: fresh,
      onsubmit: (event) => {
        event.preventDefault();
        if (!sending && !yes.disabled) go();
      },
    },
    h("div", { class: "dialog-body" }, lead, inside, outcome),
    h("div", { class: "dialog-actions" }, no, yes),
  );
  const dialog = h(
    "dialog",
    { "aria-labelledby": id, onclose: gone },
    h("div", { class: "dialog-head" }, h("h2", { id }, title)),
    form,
  );

  function fresh() {
    const paragraphs = typeof says === "function" ? says() : says;
    const made = paragraphs.filter(Boolean).map((one) => (one instanceof Node ? one : h("p", {}, one)));
    if (made.map((one) => one.textContent).join("\n") !== [...lead.children].map((one) => one.textContent).join("\n")) replace(lead, made);
    const wanted = typeof guard === "function" ? guard() : guard;
    if (JSON.stringify(wanted) !== JSON.stringify(guarding)) placeGuard(wanted);
    if (!sending) yes.disabled = !isAgreed();
  }

  function placeGuard(wanted) {
    guarding = wanted;
    guardPlace.hidden = !wanted;
    if (!wanted) {
      isAgreed = () => true;
      replace(guardPlace);
    } else if (wanted.name) {
      const input = h("input", { type: "text", autocomplete: "off", spellcheck: "false", autocapitalize: "off" });
      isAgreed = () => input.value.trim() === wanted.name;
      replace(guardPlace, field(["To go on, type ", h("code", {}, wanted.name)], input));
    } else {
      const box = h("input", { type: "checkbox" });
      isAgreed = () => box.checked;
      replace(guardPlace, check(wanted.tick, box));
    }
  }

  async function go() {
    sending = true;
    replace(outcome);
    inside.disabled = true;
    // Disabled, it would lose the focus to nowhere.
    yes.setAttribute("aria-disabled", "true");
    replace(yes, "Sending…");
    try {
      const answer = (await submit()) ?? {};
      if (answer.result && dialog.open) showResult(answer.result);
      else {
        dialog.close();
        if (answer.text) toast(answer.text, answer);
      }
      done?.(answer);
    } catch (error) {
      if (!dialog.open) return toast([error.message, error.nextStep].filter(Boolean).join(" "), { tone: "bad" });
      replace(outcome, problem(error));
      outcome.focus();
    } finally {
      sending = false;
      inside.disabled = false;
      yes.removeAttribute("aria-disabled");
      replace(yes, confirm);
      yes.disabled = !isAgreed();
    }
    return undefined;
  }

  function showResult(result) {
    replace(lead);
    inside.hidden = true;
    yes.hidden = true;
    replace(no, "Close");
    replace(outcome, result);
    outcome.focus();
  }

  function gone() {
    dialog.remove();
    // The opener may have been made anew meanwhile; the heading is near it.
    if (opener?.isConnected && opener !== document.body) return opener.focus();
    const heading = document.querySelector("main h1");
    heading?.setAttribute("tabindex", "-1");
    return heading?.focus();
  }

  fresh();
  document.body.append(dialog);
  dialog.showModal();
  const first = inside.querySelector("input, select, textarea, summary");
  (first ?? (danger ? no : yes)).focus();
  return dialog;
}

/** A short message that goes by itself, unless somebody points at it or works in it. */
export function toast(text, { href, link = "Show it", tone = "good" } = {}) {
  let going = null;
  const away = () => node.remove();
  const stay = () => clearTimeout(going);
  const start = () => {
    clearTimeout(going);
    going = setTimeout(away, STAYS);
  };
  const node = h(
    "div",
    { class: ["toast", `tone-${tone}`], onpointerenter: stay, onpointerleave: start, onfocusin: stay, onfocusout: start },
    h("p", {}, text, href ? [" ", h("a", { href }, link)] : null),
    h("button", { type: "button", class: "button-quiet button-icon button-small", "aria-label": "Dismiss", onclick: away }, "×"),
  );
  document.getElementById("toasts")?.append(node);
  start();
}

/** A field with its label, and a hint below it, which describes the field and is no part of its name. */
export function field(label, control, hint) {
  return h("div", { class: "field" }, named(control, label), control, described(control, hint));
}

/** A box to tick, with what it means. */
export function check(label, control, hint) {
  return h("div", { class: "check" }, control, h("div", {}, named(control, label), described(control, hint)));
}

function named(control, label) {
  asked += 1;
  control.id = `field-${asked}`;
  return h("label", { for: control.id }, label);
}

function described(control, hint) {
  if (!hint) return null;
  const id = `${control.id}-hint`;
  control.setAttribute("aria-describedby", id);
  return h("p", { class: "field-hint", id }, hint);
}

/** One of several: `{node, value()}`. `options`: `[value, label, hint]`. */
export function choice(legend, options, chosen = options[0][0]) {
  asked += 1;
  const name = `choice-${asked}`;
  const boxes = options.map(([value]) => h("input", { type: "radio", name, value, checked: value === chosen }));
  const node = h(
    "fieldset",
    { class: "choice" },
    h("legend", {}, legend),
    options.map(([, label, hint], index) => check(label, boxes[index], hint)),
  );
  return { node, value: () => boxes.find((box) => box.checked)?.value ?? options[0][0] };
}
