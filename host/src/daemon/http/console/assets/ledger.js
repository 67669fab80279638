// The two ledgers of a run: where each row that was read, and each row that was made, has gone.

import { count, h, icon } from "./dom.js";

export const INPUT = ["extracted", ["transformed", "filtered", "rejected"]];
export const OUTPUT = ["emitted", ["loaded", "superseded", "refused"]];

const KEYS = [INPUT[0], ...INPUT[1], OUTPUT[0], ...OUTPUT[1]];

/** The ledgers of several partitions in sum; null if none has one. */
export function total(partitions) {
  const ledgers = (partitions ?? []).map((partition) => partition.ledger).filter(Boolean);
  if (ledgers.length === 0) return null;
  return Object.fromEntries(KEYS.map((key) => [key, ledgers.reduce((sum, ledger) => sum + (ledger[key] ?? 0), 0)]));
}

/** By how much one side is more than the other; 0 if the ledger adds up. */
export function difference(ledger, [whole, parts]) {
  return ledger[whole] - parts.reduce((sum, key) => sum + ledger[key], 0);
}

/** Whether a ledger adds up, as a shape and words. While a run goes on rows are on their way. */
export function verdict(ledger, side, { running = false } = {}) {
  const off = difference(ledger, side);
  if (off === 0) return h("span", { class: "toned tone-good verdict" }, icon("check"), "adds up");
  if (running) return h("span", { class: "toned tone-active verdict" }, icon("clock"), `${count(Math.abs(off))} on their way`);
  return h("span", { class: "toned tone-bad verdict" }, icon("cross"), `differs by ${count(Math.abs(off))}`);
}

/** A ledger as a sum: `extracted 10 = transformed 8 + filtered 2 + rejected 0`. */
export function equation(ledger, side, options) {
  const [whole, parts] = side;
  const term = (key) => h("span", { class: "term" }, h("strong", {}, count(ledger[key])), h("span", {}, key));
  const sign = (text) => h("span", { class: "sign" }, text);
  return h(
    "div",
    { class: "equation" },
    h("div", { class: "equation-terms" }, term(whole), sign("="), parts.flatMap((key, index) => [index ? sign("+") : null, term(key)])),
    verdict(ledger, side, options),
  );
}

/** What a difference of the first ledger may mean. */
export function differenceNote(ledger, { running = false } = {}) {
  if (running || difference(ledger, INPUT) === 0) return null;
  return h("p", { class: "quiet" }, "Only a transformer that aggregates may differ in the first ledger. Of any other the run fails.");
}
