// A table that sorts and filters, and takes new rows without a jump: only the cells that differ are made anew.

import { h, replace } from "./dom.js";

/**
 * `{node, update(rows), filterField}`.
 *
 * - `columns`: each `{key, label, value(row), cell(row), numeric, sortable, header, class}`. `value` is what is sorted
 *   and filtered by, `cell` what is shown (else the value); `header: true` names the row. An empty `label` needs
 *   `title`, which only screen readers are told.
 * - `key(row)`: what a row is known by; else its `id`, `run_id` or `name`.
 * - `sort`: `{key, descending}` at the beginning; without it rows stay as they come.
 * - `filter`: `true` or the field's label. `filter: {label, value, onfilter(text)}` leaves the filtering to others.
 * - `steady`: columns have the widths of their classes `width-…`, and the rest is shared.
 * - `empty`: a node for no rows at all. `layout`: `cards` (on a phone a row is a card) or `scroll`.
 * - `tools`: nodes beside the filter. `rowClass(row)`: a class of the row. `captionHidden`: for screen readers only.
 */
export function table(options) {
  const { caption, columns, layout = "cards", tools = [], captionHidden = true } = options;
  const key = options.key ?? ((row) => row.id ?? row.run_id ?? row.name);
  const shown = new Map();
  let rows = options.rows ?? [];
  let sort = options.sort ?? null;
  let words = "";
  let held = false;

  const headers = columns.map((column) => header(column));
  const body = h("tbody", { role: "rowgroup" });
  const element = h(
    "table",
    { role: "table" },
    h("caption", { class: captionHidden ? "visually-hidden" : null }, caption),
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, headers.map((one) => one.node))),
    body,
  );
  // What scrolls must be reachable by keyboard, and needs a name for that.
  const region = h("div", { class: "table-region", role: "region", "aria-label": caption, tabindex: "0" }, element);
  const nothing = h("div", { class: "table-nothing" });
  const field = options.filter ? filterField() : null;
  const order = layout === "cards" && headers.some((one) => one.button) ? sortField() : null;
  const node = h(
    "div",
    { class: ["table", `table-${layout}`, options.steady && "table-steady"] },
    field || order || tools.length
      ? h("div", { class: ["toolbar", !field && !tools.length && "toolbar-sort"] }, field?.label, tools, order)
      : null,
    region,
    nothing,
  );

  region.addEventListener("pointerleave", settle);
  region.addEventListener("focusout", () => setTimeout(settle));

  function header(column) {
    const props = { scope: "col", role: "columnheader", class: classes(column) };
    const label = column.label || h("span", { class: "visually-hidden" }, column.title);
    if (!column.sortable) return { column, node: h("th", props, label) };
    const button = h("button", { type: "button", class: "sort", onclick: () => sortBy(column) }, label);
    return { column, button, node: h("th", { ...props, "aria-sort": "none" }, button) };
  }

  function filterField() {
    const given = typeof options.filter === "object" ? options.filter : {};
    const name = given.label ?? (typeof options.filter === "string" ? options.filter : "Filter");
    const input = h("input", {
      type: "search", value: given.value ?? "", placeholder: name, autocomplete: "off", spellcheck: "false",
      dataset: { filter: "" }, "aria-keyshortcuts": "/",
      oninput: () => {
        if (given.onfilter) return given.onfilter(input.value);
        words = input.value.trim().toLowerCase();
        place();
      },
    });
    return { input, label: h("label", { class: "field filter" }, h("span", { class: "visually-hidden" }, name), input) };
  }

  function sortField() {
    const select = h(
      "select",
      {
        onchange: () => {
          const [wanted, direction] = select.value.split(":");
          sort = wanted ? { key: wanted, descending: direction === "down" } : null;
          place();
        },
      },
      sort ? null : h("option", { value: "" }, "as it comes"),
      columns.filter((column) => column.sortable).flatMap((column) => [
        h("option", { value: `${column.key}:up` }, `${column.label} ↑`),
        h("option", { value: `${column.key}:down` }, `${column.label} ↓`),
      ]),
    );
    select.value = sort ? `${sort.key}:${sort.descending ? "down" : "up"}` : "";
    return h("label", { class: "field sort-field" }, h("span", {}, "Sort by"), select);
  }

  function sortBy(column) {
    const same = sort?.key === column.key;
    sort = { key: column.key, descending: same ? !sort.descending : Boolean(column.numeric) };
    const select = order?.querySelector("select");
    if (select) select.value = `${sort.key}:${sort.descending ? "down" : "up"}`;
    place();
  }

  function valueOf(column, row) {
    return column.value ? column.value(row) : row[column.key];
  }

  function ordered() {
    let found = rows;
    if (words) {
      const parts = words.split(/\s+/);
      found = found.filter((row) => {
        const text = columns.map((column) => valueOf(column, row) ?? "").join(" ").toLowerCase();
        return parts.every((part) => text.includes(part));
      });
    }
    const column = sort && columns.find((one) => one.key === sort.key);
    if (column) {
      const sign = sort.descending ? -1 : 1;
      found = [...found].sort((one, other) => {
        const [a, b] = [valueOf(column, one), valueOf(column, other)];
        const missing = (a === null || a === undefined) - (b === null || b === undefined);
        return missing || sign * compare(a, b);
      });
    }
    return found;
  }

  function place(hold = false) {
    const wanted = new Map(ordered().map((row) => [String(key(row)), row]));
    for (const [id, one] of shown) {
      if (!wanted.has(id)) {
        one.node.remove();
        shown.delete(id);
      }
    }
    let next = hold ? null : body.firstElementChild;
    for (const [id, row] of wanted) {
      let one = shown.get(id);
      if (one) refresh(one, row);
      else {
        one = make(row);
        shown.set(id, one);
        if (hold) body.append(one.node);
      }
      if (hold) continue;
      if (one.node === next) next = next.nextElementSibling;
      else body.insertBefore(one.node, next);
    }
    for (const one of headers) {
      if (!one.button) continue;
      const active = sort?.key === one.column.key;
      one.node.setAttribute("aria-sort", active ? (sort.descending ? "descending" : "ascending") : "none");
    }
    region.hidden = rows.length === 0 && Boolean(options.empty);
    if (rows.length === 0) replace(nothing, options.empty ?? "Nothing here.");
    else if (wanted.size === 0) replace(nothing, h("p", { class: "quiet" }, "Nothing matches the filter."));
    else replace(nothing);
  }

  function make(row) {
    const cells = columns.map((column) => cell(column, row));
    const node = h("tr", { role: "row", class: options.rowClass?.(row) }, cells);
    return { node, cells, said: JSON.stringify(row) };
  }

  function refresh(one, row) {
    const said = JSON.stringify(row);
    if (said === one.said) return;
    one.said = said;
    one.node.className = options.rowClass?.(row) ?? "";
    columns.forEach((column, index) => {
      const old = one.cells[index];
      const made = cell(column, row);
      // A cell that has the focus keeps it: on the same element of its successor.
      const at = old.contains(document.activeElement) ? [...old.querySelectorAll(FOCUSABLE)].indexOf(document.activeElement) : -1;
      old.replaceWith(made);
      one.cells[index] = made;
      if (at >= 0) made.querySelectorAll(FOCUSABLE)[at]?.focus({ preventScroll: true });
    });
  }

  function cell(column, row) {
    const content = column.cell ? column.cell(row) : (valueOf(column, row) ?? "–");
    const props = { class: classes(column, content), dataset: { label: column.label || null } };
    return column.header
      ? h("th", { ...props, scope: "row", role: "rowheader" }, content)
      : h("td", { ...props, role: "cell" }, content);
  }

  // On a card a place without a value is left out.
  function classes(column, content) {
    const none = content === "–" || content === "" || content?.textContent === "" && !content.firstElementChild;
    return [column.numeric && "numeric", column.class, none && "cell-none"].filter(Boolean).join(" ") || null;
  }

  function busy() {
    return region.matches(":hover") || region.contains(document.activeElement) && document.activeElement !== region;
  }

  function settle() {
    if (held && !busy()) {
      held = false;
      place();
    }
  }

  place();

  return {
    node,
    filterField: field?.input ?? null,
    /** New rows. While somebody points at a row or works in one, rows keep their places. */
    update(found, { force = false } = {}) {
      rows = found;
      held = !force && shown.size > 0 && busy();
      place(held);
    },
  };
}

const FOCUSABLE = "a[href], button, input, select, textarea, summary, [tabindex]";

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a ?? "").localeCompare(String(b ?? ""), "en", { numeric: true });
}
