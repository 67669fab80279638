// Every page: it shows what the API shows, by role and name; people with any eyes and any window can use it; nothing goes
// wrong in it. With ETL_CONSOLE_SCREENSHOTS a picture of each is kept.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { LIMIT, PHONE, assertAccessible, assertFits, assertQuiet, launch, open, picture, visit } from "./browser.mjs";
import { ask, ended, get, logged, pipeline, runsOf, start } from "./daemon.mjs";
import { hasRows, row, rows, section } from "./places.mjs";

const number = new Intl.NumberFormat("en");
const LOOKS = [["dark", { look: "dark" }], ["phone", { viewport: PHONE }]];

let browser;
const known = {};

before(async () => {
  browser = await launch();
  known.hanging = await start("networked");
  await logged("networked", known.hanging, "waiting to be cancelled");
  // Nobody listens there, so the server is left alone.
  await ended(await start("same"));
  for (const name of ["copy", "upper", "misbehaving", "row-style", "same"]) [known[name]] = await runsOf(name);
  const { status } = await ask("POST", "/api/v1/pipelines/nothing-of-this-name/runs", {});
  assert.equal(status, 404);
});

after(async () => {
  await ask("POST", `/api/v1/runs/${known.hanging}/cancel`, { now: true });
  await ended(known.hanging);
  await browser?.close();
});

/** A page: where it is, its heading, and what is there. `refusals`: it asks for what the API refuses. */
const PAGES = [
  {
    name: "overview",
    path: () => "/",
    heading: "Pipelines",
    async shows(page) {
      const { pipelines, states } = await get("/api/v1/pipelines");
      await hasRows(page, "Pipelines", pipelines.length);
      const copy = row(page, "Pipelines", "copy");
      await copy.getByText("succeeded", { exact: true }).waitFor();
      await copy.getByText(number.format(known.copy.loaded), { exact: true }).first().waitFor();
      await copy.getByRole("img", { name: /^Last 5 runs: 5 succeeded/ }).waitFor();
      await copy.getByRole("button", { name: "Run copy" }).waitFor();
      await row(page, "Pipelines", "upper").getByText("partial", { exact: true }).waitFor();
      await row(page, "Pipelines", "misbehaving").getByText("failed", { exact: true }).waitFor();
      await row(page, "Pipelines", "totals").getByText("broken", { exact: true }).waitFor();
      const hanging = row(page, "Pipelines", "networked");
      await hanging.getByText("running", { exact: true }).first().waitFor();
      await hanging.getByRole("link", { name: "Follow the run of networked" }).waitFor();
      // What failed comes first, and is counted.
      const first = await rows(page, "Pipelines").first().textContent();
      assert.match(first, /broken|failed|partial|interrupted/);
      await page.getByRole("navigation", { name: "Pipelines by state" }).getByRole("link", { name: `Failing ${states.failing}` }).waitFor();
      const refused = page.getByRole("region", { name: "Refused plugin files" });
      await refused.getByText("libfixture_not_a_plugin.so").waitFor();
      await refused.getByText("it exports no pipelines").waitFor();
    },
  },
  {
    name: "pipeline",
    path: () => "/pipelines/copy",
    heading: "copy",
    async shows(page) {
      const { partitions } = await get("/api/v1/pipelines/copy/checkpoints");
      const eu = row(page, "Checkpoints of the partitions", "eu");
      await eu.getByText(partitions[0].cursor, { exact: true }).waitFor();
      await eu.getByRole("button", { name: "Reset the checkpoint of eu" }).waitFor();
      await section(page, "Stages").getByText(number.format(known.copy.extracted), { exact: true }).first().waitFor();
      await section(page, "Dependencies").getByRole("link", { name: /even/ }).waitFor();
      for (const name of ["Run …", "Pause …", "Backfill …", "Stop …"]) await page.getByRole("button", { name, exact: true }).waitFor();
      const about = await pipeline("copy");
      await section(page, "About").getByText(about.route.sink).waitFor();
      await section(page, "About").getByText(about.sha256).waitFor();
    },
  },
  {
    name: "pipeline-runs",
    path: () => "/pipelines/copy?tab=runs",
    heading: "copy",
    async shows(page) {
      await hasRows(page, "Runs of copy", (await runsOf("copy")).length);
      await section(page, "History").getByRole("img", { name: /^History of 5 runs/ }).waitFor();
      const slider = section(page, "History").getByRole("slider", { name: "Run of the chart" });
      await slider.focus();
      const last = await slider.getAttribute("aria-valuetext");
      await page.keyboard.press("ArrowLeft");
      assert.notEqual(await slider.getAttribute("aria-valuetext"), last);
    },
  },
  {
    name: "pipeline-schedule",
    path: () => "/pipelines/copy?tab=schedule",
    heading: "copy",
    async shows(page) {
      const { description, next } = await get("/api/v1/pipelines/copy/schedule");
      await section(page, "Schedule").getByText(description).first().waitFor();
      await section(page, "Schedule").getByText("0 3 * * *").waitFor();
      assert.equal(next.length, 10);
      await hasRows(page, "Next instants in each zone", 10);
      await page.getByRole("columnheader", { name: "In Europe/Berlin" }).waitFor();
      await rows(page, "Next instants in each zone").first().getByText(/03:00/).waitFor();
    },
  },
  {
    name: "pipeline-configuration",
    path: () => "/pipelines/copy?tab=configuration",
    heading: "copy",
    async shows(page) {
      const mode = row(page, "Configuration", "sink.write_mode");
      await mode.getByText("upsert", { exact: true }).waitFor();
      await mode.getByText(/copy\.yaml:\d+/).waitFor();
      await row(page, "Configuration", "error_handling.max_retries").getByText("default", { exact: true }).waitFor();
    },
  },
  {
    name: "pipeline-secrets",
    path: () => "/pipelines/same?tab=configuration",
    heading: "same",
    async shows(page) {
      await row(page, "Configuration", "sink.password").getByText("***", { exact: true }).waitFor();
      assert.ok(!(await page.content()).includes(process.env.ETL_CONSOLE_SECRET));
    },
  },
  {
    name: "pipeline-dead-letters",
    path: () => "/pipelines/row-style?tab=dead-letters",
    heading: "row-style",
    async shows(page) {
      const { dead_letters: letters } = await get("/api/v1/pipelines/row-style/dead-letters");
      assert.equal(letters.length, 3);
      await hasRows(page, "Dead letters", 3);
      const first = rows(page, "Dead letters").first();
      await first.getByText("nobody greets the bad one").waitFor();
      await first.getByText("Row", { exact: true }).click();
      await first.getByText('"name": "bad"').waitFor();
      await page.getByRole("button", { name: "Replay all …" }).waitFor();
    },
  },
  {
    name: "pipeline-logs",
    path: () => "/pipelines/copy?tab=logs",
    heading: "copy",
    async shows(page) {
      const { lines } = await get("/api/v1/pipelines/copy/logs?level=INFO&lines=500");
      const log = page.getByRole("log", { name: "Log of copy" });
      await log.getByText(lines.at(-1).message).last().waitFor();
      await page.getByRole("searchbox", { name: "Filter lines" }).fill("nothing says this");
      await page.getByText("0 lines").waitFor();
      await page.getByRole("searchbox", { name: "Filter lines" }).fill("");
    },
  },
  {
    name: "pipeline-failing",
    path: () => "/pipelines/misbehaving",
    heading: "misbehaving",
    async shows(page) {
      const last = page.getByRole("region", { name: "Run", exact: true });
      await last.getByRole("link", { name: "Last run" }).waitFor();
      await last.getByText("failed", { exact: true }).waitFor();
      await last.getByText(known.misbehaving.error).waitFor();
    },
  },
  {
    name: "pipeline-broken",
    path: () => "/pipelines/totals",
    heading: "totals",
    refusals: true,
    async shows(page) {
      const problem = page.getByRole("alert").first();
      await problem.getByText(/totals\.yaml:1:\d+/).first().waitFor();
      await problem.getByText("sink.write_mode").first().waitFor();
      assert.equal(await page.getByRole("button", { name: "Run …", exact: true }).count(), 0);
    },
  },
  {
    name: "pipeline-running",
    path: () => "/pipelines/networked",
    heading: "networked",
    async shows(page) {
      await page.getByRole("link", { name: "Current run" }).waitFor();
      await page.getByRole("button", { name: "Cancel run …", exact: true }).waitFor();
    },
  },
  {
    name: "runs",
    path: () => "/runs",
    heading: "Runs",
    async shows(page) {
      const { runs } = await get("/api/v1/runs?limit=50");
      await hasRows(page, "Runs", runs.length);
      const failed = rows(page, "Runs").filter({ has: page.getByRole("link", { name: /^Run of misbehaving, / }) });
      await failed.getByText(known.misbehaving.error.replace("pipeline misbehaving, ", "")).waitFor();
      await failed.getByText("3", { exact: true }).waitFor();
    },
  },
  {
    name: "run-succeeded",
    path: () => `/runs/${known.copy.run_id}`,
    heading: "Run of copy",
    async shows(page) {
      const summary = page.getByRole("region", { name: "Summary" });
      await summary.getByText(number.format(known.copy.extracted), { exact: true }).first().waitFor();
      await section(page, "Ledgers").getByText("adds up").first().waitFor();
      await section(page, "Attempts").getByText("1 attempt").waitFor();
      await row(page, "Partitions of the run", "eu").getByText("succeeded").waitFor();
      await page.getByRole("log", { name: "Log of the run" }).waitFor();
      assert.equal(await page.getByRole("button", { name: "Cancel run …", exact: true }).count(), 0);
    },
  },
  {
    name: "run-partial",
    path: () => `/runs/${known.upper.run_id}`,
    heading: "Run of upper",
    async shows(page) {
      await row(page, "Partitions of the run", "eu").getByText("succeeded").waitFor();
      await row(page, "Partitions of the run", "us").getByText("failed").waitFor();
      const problem = page.getByRole("alert").first();
      await problem.getByText("Partition us", { exact: true }).waitFor();
      await problem.getByText("no such table: people").waitFor();
    },
  },
  {
    name: "run-failed",
    path: () => `/runs/${known.misbehaving.run_id}`,
    heading: "Run of misbehaving",
    async shows(page) {
      await page.getByRole("alert").first().getByText("the service is away for a moment").first().waitFor();
      const attempts = section(page, "Attempts");
      await attempts.getByText("3 attempts").click();
      for (const attempt of [1, 2, 3]) await attempts.getByText(`Attempt ${attempt}`, { exact: true }).waitFor();
      await attempts.getByText(/Then it waited/).first().waitFor();
      // What went wrong stands above everything else.
      const top = (locator) => locator.first().evaluate((element) => element.getBoundingClientRect().top);
      assert.ok(await top(page.getByRole("alert")) < await top(page.getByRole("region", { name: "Summary" })));
    },
  },
  {
    name: "run-sink-away",
    path: () => `/runs/${known.same.run_id}`,
    heading: "Run of same",
    async shows(page) {
      const problem = page.getByRole("alert").first();
      await problem.getByText(known.same.error).waitFor();
      await problem.getByText("Next step:").waitFor();
    },
  },
  {
    name: "run-running",
    path: () => `/runs/${known.hanging}`,
    heading: "Run of networked",
    async shows(page) {
      await row(page, "Partitions of the run", "eu").getByText("running").waitFor();
      await page.getByRole("button", { name: "Cancel run …", exact: true }).waitFor();
      await page.getByRole("log", { name: "Log of the run" }).getByText("waiting to be cancelled").waitFor();
      // A level, and the lines that are as grave.
      await page.getByRole("combobox", { name: "Level" }).selectOption("WARN");
      await page.getByRole("log").getByText("waiting to be cancelled").waitFor();
    },
  },
  {
    name: "servers",
    path: () => "/servers",
    heading: "Servers",
    async shows(page) {
      const { breakers, pools } = await get("/api/v1/servers");
      assert.ok(breakers.length > 0 && pools.length > 0);
      for (const { guards } of breakers) await row(page, "Circuit breakers", guards).waitFor();
      await rows(page, "Circuit breakers").first().getByText("left alone").waitFor();
      await row(page, "Connection pools", pools[0].server).getByRole("img", { name: /in use.*of at most/ }).waitFor();
      const { process } = await get("/api/v1/daemon");
      await row(page, "Processes", "daemon").getByText(String(process), { exact: true }).waitFor();
      const worker = row(page, "Processes", "networked");
      await worker.getByText(/MiB$/).first().waitFor();
      // After the second look the CPU is known.
      await row(page, "Processes", "daemon").getByText(/ %$/).waitFor();
    },
  },
  {
    name: "plugins",
    path: () => "/plugins",
    heading: "Plugins",
    async shows(page) {
      const { refused } = await get("/api/v1/plugins/refused");
      const file = rows(page, "Refused plugin files").filter({ hasText: "libfixture_not_a_plugin.so" });
      await file.getByText(refused[0].reason).waitFor();
      await file.getByText(refused[0].fix).waitFor();
    },
  },
  {
    name: "audit",
    path: () => "/audit",
    heading: "Audit log",
    async shows(page) {
      const wrong = rows(page, "Audit log").filter({ has: page.getByRole("link", { name: "nothing-of-this-name" }) });
      await wrong.getByText("404").waitFor();
      await wrong.getByText("with the token").waitFor();
      const right = rows(page, "Audit log").filter({ has: page.getByRole("link", { name: "networked" }) });
      await right.getByText("done").first().waitFor();
    },
  },
  {
    name: "not-found",
    path: () => "/pipelines/nothing-of-this-name",
    heading: "Not found",
    refusals: true,
    async shows(page) {
      await page.getByRole("alert").getByText("There is no pipeline nothing-of-this-name.").waitFor();
      await page.getByRole("link", { name: "To the overview" }).waitFor();
    },
  },
];

for (const { name, path, heading, refusals = false, shows } of PAGES) {
  test(`${name}: shows what there is, and can be used by all`, LIMIT, async () => {
    const { page, trouble, context } = await open(browser, { refusals });
    await visit(page, path(), heading);
    assert.match(await page.title(), /etl-host/);
    await judge(page, `${name}-light`);
    await shows(page);
    assertQuiet(trouble);
    await context.close();
  });
}

for (const [look, options] of LOOKS) {
  test(`every page can be used by all: ${look}`, { timeout: 300_000 }, async (t) => {
    const { page, trouble } = await open(browser, { ...options, refusals: true });
    for (const { name, path, heading } of PAGES) {
      await t.test(name, async () => {
        await visit(page, path(), heading);
        await judge(page, `${name}-${look}`);
        assertQuiet(trouble.splice(0));
      });
    }
  });
}

for (const [look, options] of [["light", {}], ...LOOKS]) {
  test(`the login can be used by all: ${look}`, LIMIT, async () => {
    const { page, trouble } = await open(browser, { ...options, signedIn: false });
    await visit(page, "/login", "Sign in to etl-host");
    await page.getByRole("textbox", { name: "Token" }).waitFor();
    await page.getByText("http.token").waitFor();
    await judge(page, `login-${look}`);
    assertQuiet(trouble);
  });
}

test("the theme that somebody chooses holds", LIMIT, async () => {
  const { page, trouble } = await open(browser);
  await visit(page, "/", "Pipelines");
  const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await background();
  await page.getByRole("button", { name: "Theme: auto" }).click();
  await page.getByRole("button", { name: "Theme: light" }).click();
  await page.getByRole("button", { name: "Theme: dark" }).waitFor();
  assert.notEqual(await background(), light);
  await page.reload();
  await page.getByRole("button", { name: "Theme: dark" }).waitFor();
  assert.notEqual(await background(), light);
  assertQuiet(trouble);
});

test("times are absolute on hover and focus", LIMIT, async () => {
  const { page } = await open(browser);
  await visit(page, `/runs/${known.copy.run_id}`, "Run of copy");
  const began = page.locator("time").first();
  assert.match(await began.getAttribute("title"), /\d\d:\d\d:\d\d.*UTC$/);
  // The mouse has the title; the keyboard is shown the same.
  await page.getByRole("button", { name: /^Copy link/ }).focus();
  while (!(await page.evaluate(() => document.activeElement.matches("time")))) await page.keyboard.press("Tab");
  await page.getByRole("tooltip").getByText(/UTC$/).waitFor();
});

/** Whether people with any eyes and any window can use what is there. */
async function judge(page, name) {
  await settled(page);
  await assertAccessible(page, name);
  await assertFits(page, name);
  await picture(page, name);
}

/** Waits until nothing is about to come that the page has asked for. */
async function settled(page) {
  await page.waitForFunction(() => !document.querySelector("main .skeleton"));
  await page.evaluate(() => document.fonts.ready.then(() => new Promise((resume) => requestAnimationFrame(() => requestAnimationFrame(resume)))));
}

