// Who has only a keyboard gets everywhere and knows where he is; and what happens elsewhere is shown while it happens.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { LIMIT, address, assertQuiet, launch, open, visit } from "./browser.mjs";
import { ask, ended, logged, runsOf, start } from "./daemon.mjs";
import { dialog, row } from "./places.mjs";

let browser;

before(async () => {
  browser = await launch();
});

after(() => browser?.close());

/** What has the focus, as it is called. */
function focused(page) {
  return page.evaluate(() => {
    const element = document.activeElement;
    return element.getAttribute("aria-label") ?? element.labels?.[0]?.textContent ?? element.textContent.trim();
  });
}

/** Presses Tab until something of this name has the focus. */
async function tabTo(page, name) {
  for (let stops = 0; stops < 400; stops += 1) {
    if ((await focused(page)) === name) return;
    await page.keyboard.press("Tab");
  }
  assert.fail(`Tab does not get to ${name}`);
}

const at = (page, heading) => page.getByRole("heading", { level: 1, name: heading }).waitFor();

test("keys go to pages, unless somebody writes", LIMIT, async () => {
  const { page, trouble } = await open(browser);
  await visit(page, "/", "Pipelines");
  for (const [key, heading, title] of [
    ["r", "Runs", "Runs"], ["s", "Servers", "Servers"], ["p", "Plugins", "Plugins"], ["a", "Audit log", "Audit log"], ["o", "Pipelines", "Overview"],
  ]) {
    await page.keyboard.press("g");
    await page.keyboard.press(key);
    await at(page, heading);
    // Who cannot see the page is told where he is.
    await page.waitForFunction((wanted) => document.title.startsWith(wanted) && document.activeElement.tagName === "H1", title);
  }
  await page.keyboard.press("/");
  const search = page.getByRole("searchbox", { name: "Search pipelines" });
  assert.equal(await focused(page), "Search pipelines");
  await page.keyboard.type("g r?/");
  assert.equal(await search.inputValue(), "g r?/");
  await page.getByText("No pipeline matches").waitFor();
  assert.equal(new URL(page.url()).pathname, "/");
  assertQuiet(trouble);
});

test("the keys are told, and Escape leads back", LIMIT, async () => {
  const { page, trouble } = await open(browser);
  await visit(page, "/", "Pipelines");
  await tabTo(page, "Run copy");
  await page.keyboard.press("?");
  await dialog(page, "Keys").getByText("to the filter of the page").waitFor();
  await page.keyboard.press("Escape");
  await dialog(page, "Keys").waitFor({ state: "detached" });
  assert.equal(await focused(page), "Run copy");
  assertQuiet(trouble);
});

test("Tab comes to the content first, then through the rows to a dialog that keeps it", LIMIT, async () => {
  const { page, trouble } = await open(browser);
  await visit(page, "/", "Pipelines");
  await page.keyboard.press("Tab");
  assert.equal(await focused(page), "Skip to the content");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.activeElement.id === "main");
  await tabTo(page, "Run copy");
  // Where the focus is can be seen.
  const ring = await page.evaluate(() => {
    const style = getComputedStyle(document.activeElement);
    return style.outlineStyle !== "none" && Number.parseFloat(style.outlineWidth) >= 2;
  });
  assert.ok(ring, "the focus has no ring");
  await page.keyboard.press("Enter");
  const opened = dialog(page, "Run copy");
  await opened.waitFor();
  for (let stops = 0; stops < 12; stops += 1) {
    const inside = await page.evaluate(() => {
      const element = document.activeElement;
      // Between the last and the first of a dialog the browser's own controls have their turn.
      return element === document.body || Boolean(element.closest("dialog"));
    });
    assert.ok(inside, `the focus left the dialog for ${await focused(page)}`);
    await page.keyboard.press("Tab");
  }
  await page.keyboard.press("Escape");
  await opened.waitFor({ state: "detached" });
  assert.equal(await focused(page), "Run copy");
  assertQuiet(trouble);
});

test("a pipeline is run without a mouse", LIMIT, async () => {
  const { page, trouble } = await open(browser);
  const before = await runsOf("copy");
  await visit(page, "/pipelines/copy", "copy");
  await page.keyboard.press("r");
  await dialog(page, "Run copy").waitFor();
  await page.getByRole("button", { name: "Run", exact: true }).press("Enter");
  const toast = page.getByRole("status").getByText("A run of copy was started.");
  await toast.waitFor();
  await toast.getByRole("link", { name: "Show the run" }).press("Enter");
  await at(page, "Run of copy");
  const run = new URL(page.url()).pathname.split("/").at(-1);
  assert.equal((await ended(run)).summary.status, "succeeded");
  assert.equal((await runsOf("copy")).length, before.length + 1);
  assertQuiet(trouble);
});

test("columns sort by their heads", LIMIT, async () => {
  const { page, trouble } = await open(browser);
  await visit(page, "/runs", "Runs");
  const head = page.getByRole("columnheader", { name: "Pipeline" });
  for (const direction of ["ascending", "descending"]) {
    await head.getByRole("button").press("Enter");
    assert.equal(await head.getAttribute("aria-sort"), direction);
    const names = await page.getByRole("table", { name: "Runs" }).getByRole("row").locator("[data-label=Pipeline]").allTextContents();
    const sorted = [...names].sort((one, other) => one.localeCompare(other, "en", { numeric: true }));
    assert.deepEqual(names, direction === "ascending" ? sorted : sorted.reverse());
  }
  assertQuiet(trouble);
});

test("what happens elsewhere is shown without a reload", LIMIT, async () => {
  const { page, trouble } = await open(browser);
  await visit(page, "/", "Pipelines");
  await page.getByText("live", { exact: true }).waitFor();
  await page.evaluate(() => {
    globalThis.notReloaded = true;
  });
  const run = await start("networked");
  const hanging = row(page, "Pipelines", "networked");
  await hanging.getByText("running", { exact: true }).first().waitFor();
  await hanging.getByRole("link", { name: "Follow the run of networked" }).click();
  await at(page, "Run of networked");
  await logged("networked", run, "waiting to be cancelled");
  await row(page, "Partitions of the run", "eu").getByText("running").waitFor();
  await page.getByRole("log").getByText("waiting to be cancelled").waitFor();
  await ask("POST", `/api/v1/runs/${run}/cancel`, { now: true });
  await ended(run);
  await page.getByRole("main").getByText("cancelled", { exact: true }).first().waitFor();
  await page.getByRole("button", { name: "Cancel run …", exact: true }).waitFor({ state: "hidden" });
  await page.getByRole("navigation", { name: "Pages" }).getByRole("link", { name: "Overview" }).click();
  await row(page, "Pipelines", "networked").getByText("cancelled", { exact: true }).waitFor();
  assert.ok(await page.evaluate(() => globalThis.notReloaded));
  assertQuiet(trouble);
});

test("a row that somebody is at keeps its place and the focus", LIMIT, async () => {
  const { page, trouble } = await open(browser);
  await visit(page, "/", "Pipelines");
  await tabTo(page, "Run copy");
  const place = () => row(page, "Pipelines", "copy").evaluate((element) => element.getBoundingClientRect().top);
  const before = await place();
  const run = await start("networked");
  await row(page, "Pipelines", "networked").getByText("running", { exact: true }).first().waitFor();
  assert.equal(await place(), before);
  assert.equal(await focused(page), "Run copy");
  await ask("POST", `/api/v1/runs/${run}/cancel`, { now: true });
  await ended(run);
  assertQuiet(trouble);
});

test("a lost connection is told, and taken up again", LIMIT, async () => {
  const { context, page } = await open(browser, { refusals: true });
  await context.route("**/api/v1/events", (route) => route.abort());
  await page.goto(address);
  await page.getByText("Connection lost.").waitFor();
  await context.unroute("**/api/v1/events");
  await page.getByText("live", { exact: true }).waitFor();
  await page.getByText("Connection lost.").waitFor({ state: "detached" });
});
