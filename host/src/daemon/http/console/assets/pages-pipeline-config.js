// The configuration in force: every value, and where it comes from.

import { get } from "./api.js";
import { empty, h, problem, replace } from "./dom.js";
import { table } from "./table.js";

export async function tab({ pane, path, onChange }) {
  let list = null;
  const look = async () => {
    try {
      const { values } = await get(`${path}/config/origins`);
      if (list) return list.update(values);
      list = valuesTable(values);
      return replace(pane, h("p", { class: "quiet" }, "What holds now, with all defaults. Passwords and secrets are ***."), list.node);
    } catch (error) {
      list = null;
      return replace(pane, problem(error));
    }
  };
  onChange(look);
  await look();
}

function valuesTable(rows) {
  return table({
    caption: "Configuration",
    key: (one) => one.key,
    rows,
    filter: "Filter by key, value or origin",
    columns: [
      { key: "key", label: "Key", header: true, sortable: true, cell: (one) => h("code", {}, one.key), class: "col-key" },
      { key: "value", label: "Value", sortable: true, value: (one) => written(one.value), cell: value, class: "col-value" },
      {
        key: "origin", label: "From", sortable: true,
        value: (one) => [one.origin, ...(one.variables ?? [])].join(" "), cell: origin, class: "col-origin",
      },
    ],
    empty: empty("No values", "The configuration is empty."),
  });
}

function origin(one) {
  return h(
    "div",
    { class: "cell-lines" },
    one.origin === "default" ? h("span", { class: "quiet" }, "default") : h("code", {}, one.origin),
    one.variables?.length ? h("span", { class: "cell-note" }, one.variables.length === 1 ? "variable " : "variables ", one.variables.map((name, index) => [index ? ", " : null, h("code", {}, name)])) : null,
  );
}

function written(value) {
  if (value === null) return "none";
  return typeof value === "string" ? value : JSON.stringify(value);
}

function value(one) {
  const text = written(one.value);
  if (one.value === null || text === "") return h("span", { class: "quiet" }, one.value === null ? "none" : "empty");
  if (text === "***") return h("span", { class: "secret", title: "A secret is never shown." }, "***");
  if (text.includes("\n") || text.length > 160) return h("details", {}, h("summary", {}, `${text.trim().split("\n", 1)[0].slice(0, 80)} …`), h("pre", { class: "payload", tabindex: "0" }, text));
  return h("code", {}, text);
}
