// Two hundred pipelines with ten thousand runs: what is asked of the daemon is a page of them, and it comes soon.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { LIMIT, PHONE, assertAccessible, assertFits, assertQuiet, launch, open, picture, visit } from "./browser.mjs";
import { get } from "./daemon.mjs";
import { hasRows, rows } from "./places.mjs";

const PAGE = 50;
let browser;

before(async () => {
  browser = await launch();
});

after(() => browser?.close());

/** All that a page asks the API for, with the size of the answers. */
function listen(page) {
  const heard = [];
  page.on("response", (answer) => {
    const url = new URL(answer.url());
    if (url.pathname.startsWith("/api/") && url.pathname !== "/api/v1/events") heard.push({ url, body: answer.body() });
  });
  return heard;
}

test("the overview takes a page of fifty, and the next one", LIMIT, async (t) => {
  const { page, trouble } = await open(browser);
  const heard = listen(page);
  await visit(page, "/", "Pipelines");
  await hasRows(page, "Pipelines", PAGE);
  await page.getByText("1–50 of 200 pipelines").waitFor();
  const lists = heard.filter(({ url }) => url.pathname === "/api/v1/pipelines");
  assert.equal(lists.length, 1);
  assert.equal(lists[0].url.searchParams.get("limit"), String(PAGE));
  const body = await lists[0].body;
  const first = JSON.parse(body);
  assert.equal(first.pipelines.length, PAGE);
  assert.equal(first.total, 200);
  t.diagnostic(`the list of pipelines has ${Math.round(body.length / 1024)} KiB`);
  // Those that need somebody come first.
  const failing = first.states.failing;
  const ill = first.pipelines.filter((one) => ["failed", "partial"].includes(one.last_run.status));
  assert.equal(ill.length, Math.min(failing, PAGE));
  assert.ok(first.pipelines.every((one) => one.recent.length === 30));

  await page.getByRole("link", { name: "Next" }).click();
  await page.getByText("51–100 of 200 pipelines").waitFor();
  await hasRows(page, "Pipelines", PAGE);
  assert.equal(new URL(page.url()).searchParams.get("offset"), "50");
  await assertFits(page, "the overview");
  await picture(page, "many-overview-light");
  assertQuiet(trouble);
});

test("what is searched for is looked for by the daemon", LIMIT, async () => {
  const { page, trouble } = await open(browser);
  await visit(page, "/", "Pipelines");
  await page.getByRole("searchbox", { name: "Search pipelines" }).fill("billing");
  await page.getByText("10 pipelines", { exact: true }).waitFor();
  await hasRows(page, "Pipelines", 10);
  await page.reload();
  await hasRows(page, "Pipelines", 10);
  await page.getByRole("searchbox", { name: "Search pipelines" }).fill("nothing has this name");
  await page.getByText("No pipeline matches").waitFor();
  await page.getByRole("link", { name: "Show all" }).click();
  await hasRows(page, "Pipelines", PAGE);
  const { states } = await get("/api/v1/pipelines?limit=1");
  await page.getByRole("navigation", { name: "Pipelines by state" }).getByRole("link", { name: /^Failing/ }).click();
  await hasRows(page, "Pipelines", Math.min(states.failing, PAGE));
  assertQuiet(trouble);
});

test("ten thousand runs come fifty at a time", LIMIT, async () => {
  const { page, trouble } = await open(browser);
  const heard = listen(page);
  await visit(page, "/runs", "Runs");
  await hasRows(page, "Runs", PAGE);
  const newest = await rows(page, "Runs").first().textContent();
  await page.getByRole("link", { name: "Older" }).click();
  await page.getByRole("link", { name: "Newest" }).waitFor();
  await hasRows(page, "Runs", PAGE);
  assert.notEqual(await rows(page, "Runs").first().textContent(), newest);
  await page.getByRole("combobox", { name: "Status", exact: true }).selectOption("failed");
  await page.getByRole("link", { name: "Clear" }).waitFor();
  await hasRows(page, "Runs", PAGE);
  await assertFits(page, "the runs");
  const lists = heard.filter(({ url }) => url.pathname === "/api/v1/runs");
  assert.ok(lists.length >= 3);
  assert.ok(lists.every(({ url }) => Number(url.searchParams.get("limit")) === PAGE), lists.map(({ url }) => url.href).join("\n"));
  assertQuiet(trouble);
});

test("fifty rows can be used by all, also on a phone", LIMIT, async () => {
  for (const options of [{ look: "dark" }, { viewport: PHONE }]) {
    const { page, trouble, context } = await open(browser, options);
    await visit(page, "/", "Pipelines");
    await hasRows(page, "Pipelines", PAGE);
    await assertAccessible(page, "the overview");
    await assertFits(page, "the overview");
    assertQuiet(trouble);
    await context.close();
  }
});

test("the first paint comes soon", LIMIT, async (t) => {
  const { page } = await open(browser);
  const paints = [];
  const data = [];
  for (let visits = 0; visits < 7; visits += 1) {
    await visit(page, "/", "Pipelines");
    await rows(page, "Pipelines").nth(PAGE - 1).waitFor();
    data.push(await page.evaluate(() => performance.now()));
    paints.push(await page.evaluate(() => performance.getEntriesByType("paint").find((entry) => entry.name === "first-contentful-paint").startTime));
  }
  const median = (times) => Math.round(times.sort((a, b) => a - b)[Math.floor(times.length / 2)]);
  // How fast the machine is, and what else it does, is no matter of the console: it is told, and judged by people.
  t.diagnostic(`first contentful paint ${median(paints)} ms, rows of pipelines there after ${median(data)} ms (medians of ${paints.length})`);
});
