// Where things stand in the console, by their roles and names.

/** The rows of a table; each has a head of its own. */
export function rows(page, table) {
  return page.getByRole("table", { name: table, exact: true }).getByRole("row").filter({ has: page.getByRole("rowheader") });
}

/** Waits until the table has so many rows, and no more. */
export async function hasRows(page, table, count) {
  await rows(page, table).nth(count - 1).waitFor();
  await rows(page, table).nth(count).waitFor({ state: "detached" });
}

/** The row of a table whose head says this. */
export function row(page, table, name) {
  return rows(page, table).filter({ has: page.getByRole("rowheader").getByText(name, { exact: true }) });
}

/** A part of a page, by its heading. */
export function section(page, name) {
  return page.getByRole("region", { name, exact: true }).filter({ has: page.getByRole("heading", { name, exact: true }) });
}

/** The dialog that is open. */
export function dialog(page, name) {
  return page.getByRole("dialog", { name, exact: true });
}
