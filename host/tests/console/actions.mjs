// Every action of the console: done by its dialog, and held against what the API shows afterwards.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { LIMIT, assertAccessible, assertQuiet, launch, open, picture, visit } from "./browser.mjs";
import { ended, get, listen, logged, pipeline, runsOf, start } from "./daemon.mjs";
import { dialog, row, rows } from "./places.mjs";

let browser;

before(async () => {
  browser = await launch();
});

after(() => browser?.close());

/** Opens the page of a pipeline, lets `act` work on it, and looks that nothing went wrong. */
async function on(path, heading, act, { refusals = false } = {}) {
  const { page, trouble, context } = await open(browser, { refusals });
  await visit(page, path, heading);
  await act(page);
  assertQuiet(trouble);
  await context.close();
}

const button = (place, name) => place.getByRole("button", { name, exact: true });

/** Opens a dialog, looks whether it can be used by all, and gives it. */
async function asked(page, name, title) {
  await button(page, name).first().click();
  const opened = dialog(page, title);
  await opened.waitFor();
  for (const look of ["dark", "light"]) {
    await page.emulateMedia({ colorScheme: look });
    await assertAccessible(page, `${title}, ${look}`);
    await picture(page, `dialog-${title.split(" ", 1)[0].toLowerCase()}-${look}`, { whole: false });
  }
  return opened;
}

/** Waits for the message afterwards, and gives the identifier of the run that it links to. */
async function told(page, text) {
  const toast = page.getByRole("status").getByText(text);
  await toast.waitFor();
  const link = toast.getByRole("link", { name: "Show the run" });
  return (await link.count()) ? (await link.getAttribute("href")).split("/").at(-1) : null;
}

test("run, with a limit", LIMIT, () =>
  on("/", "Pipelines", async (page) => {
    const opened = await asked(page, "Run words", "Run words");
    await opened.getByText("Starts a run now, beside the schedule.").waitFor();
    await opened.getByText("Options").click();
    await opened.getByLabel("Most rows per partition").fill("5");
    await button(opened, "Run").click();
    const run = await told(page, "A run of words was started.");
    await opened.waitFor({ state: "detached" });
    const { summary, report } = await ended(run);
    assert.equal(summary.status, "succeeded");
    // The limit may cut the last rows of one cursor value: these wait for the next run.
    assert.equal(report.rows.extracted, 4);
  }));

test("run dry: nothing is written, and everything has to be agreed to first", LIMIT, () =>
  on("/pipelines/copy", "copy", async (page) => {
    const before = await get("/api/v1/pipelines/copy/checkpoints");
    const opened = await asked(page, "Run …", "Run copy");
    await opened.getByText("Options").click();
    await opened.getByRole("radio", { name: /^At the beginning/ }).check();
    assert.ok(await button(opened, "Run").isDisabled());
    await opened.getByRole("checkbox", { name: /^Dry run/ }).check();
    await opened.getByText("nothing is written").waitFor();
    await button(opened, "Run").click();
    const { summary, report } = await ended(await told(page, "A dry run of copy was started."));
    assert.equal(summary.status, "succeeded");
    assert.equal(report.dry_run, true);
    assert.ok(report.rows.extracted > 240);
    assert.deepEqual(await get("/api/v1/pipelines/copy/checkpoints"), before);
  }));

test("what the API refuses is said in the dialog, with the next step", LIMIT, () =>
  on(
    "/pipelines/copy",
    "copy",
    async (page) => {
      const opened = await asked(page, "Backfill …", "Backfill copy");
      await opened.getByLabel("From").fill("10");
      await opened.getByLabel("To", { exact: false }).nth(0).waitFor();
      await opened.getByRole("textbox", { name: /^To/ }).fill("5");
      await opened.getByRole("checkbox", { name: /^I know/ }).check();
      await button(opened, "Start the backfill").click();
      await opened.getByRole("alert").getByText("is not before").waitFor();
      assert.ok(await opened.isVisible());
      // Mended, it is sent again from the same dialog.
      assert.ok(await button(opened, "Start the backfill").isEnabled());
      await page.keyboard.press("Escape");
      await opened.waitFor({ state: "detached" });
    },
    { refusals: true },
  ));

test("cancel a run that hangs", LIMIT, async () => {
  const run = await start("networked");
  await logged("networked", run, "waiting to be cancelled");
  await on(`/runs/${run}`, "Run of networked", async (page) => {
    const opened = await asked(page, "Cancel run …", "Cancel the run of networked");
    await opened.getByRole("radio", { name: /^Stop now/ }).check();
    await opened.getByText("what is not committed yet is rolled back").waitFor();
    await button(opened, "Cancel the run").click();
    await told(page, "The run of networked was asked to stop.");
    await page.getByRole("main").getByText("cancelled", { exact: true }).first().waitFor();
    assert.equal((await ended(run)).summary.status, "cancelled");
  });
});

test("pause and resume", LIMIT, () =>
  on("/pipelines/copy", "copy", async (page) => {
    await button(await asked(page, "Pause …", "Pause copy"), "Pause").click();
    await told(page, "copy is paused.");
    const paused = await get("/api/v1/pipelines/copy/schedule");
    assert.deepEqual([paused.paused, paused.next], [true, []]);
    await page.getByText("Paused: its schedule starts no run.").waitFor();
    await button(await asked(page, "Resume …", "Resume copy"), "Resume").click();
    await told(page, "copy follows its schedule again.");
    const resumed = await get("/api/v1/pipelines/copy/schedule");
    assert.deepEqual([resumed.paused, resumed.next.length], [false, 10]);
    await page.getByText("Paused: its schedule starts no run.").waitFor({ state: "detached" });
  }));

test("stop and start", LIMIT, () =>
  on("/pipelines/even", "even", async (page) => {
    const opened = await asked(page, "Stop …", "Stop even");
    assert.ok(await button(opened, "Stop the pipeline").isDisabled());
    await opened.getByRole("checkbox", { name: /^I know/ }).check();
    await button(opened, "Stop the pipeline").click();
    await told(page, "even is stopped.");
    assert.equal((await pipeline("even")).state, "disabled");
    await page.getByText("Stopped: nothing starts it by itself.").waitFor();
    await button(await asked(page, "Start …", "Start even"), "Start").click();
    const run = await told(page, "even is enabled.");
    assert.equal((await ended(run)).summary.status, "succeeded");
    assert.notEqual((await pipeline("even")).state, "disabled");
  }));

test("backfill in windows", LIMIT, () =>
  on("/pipelines/copy", "copy", async (page) => {
    const before = await get("/api/v1/pipelines/copy/checkpoints");
    const opened = await asked(page, "Backfill …", "Backfill copy");
    await opened.getByRole("textbox", { name: /^From/ }).fill("0");
    await opened.getByRole("textbox", { name: /^To/ }).fill("100");
    await opened.getByRole("textbox", { name: /^Window/ }).fill("25");
    assert.ok(await button(opened, "Start the backfill").isDisabled());
    await opened.getByRole("checkbox", { name: /^I know/ }).check();
    await button(opened, "Start the backfill").click();
    const { summary, report } = await ended(await told(page, "A backfill of copy was started."));
    assert.deepEqual([summary.status, summary.trigger], ["succeeded", "backfill"]);
    assert.equal(report.rows.loaded, 100);
    assert.deepEqual([report.backfill.windows, report.backfill.windows_done], [4, 4]);
    const cursors = ({ partitions }) => partitions.map(({ name, cursor }) => [name, cursor]);
    assert.deepEqual(cursors(await get("/api/v1/pipelines/copy/checkpoints")), cursors(before));
    await visit(page, `/runs/${summary.run_id}`, "Run of copy");
    await page.getByText("4 of 4 windows done").waitFor();
  }));

test("replay dead letters: refused again, then loaded", LIMIT, () =>
  on("/pipelines/row-style?tab=dead-letters", "row-style", async (page) => {
    const letters = async () => (await get("/api/v1/pipelines/row-style/dead-letters")).dead_letters;
    const [first] = await letters();
    await page.getByRole("checkbox", { name: `Select No. ${first.id}` }).check();
    let opened = await asked(page, "Replay 1 selected …", "Replay 1 dead letter");
    await button(opened, "Replay").click();
    await opened.getByText(`No. ${first.id}`).waitFor();
    await opened.getByText("nobody greets the bad one").waitFor();
    await button(opened, "Close").click();
    assert.equal((await letters()).length, 3);

    const events = await listen("/api/v1/events");
    writeFileSync(join(process.env.ETL_CONSOLE_PROJECT, "plugins/row-style.yaml"), "error_handling: { max_bad_rows: 10 }\nsettings: { rejects: nobody }\n");
    await events.until((event, data) => event === "pipeline_changed" && data.pipeline === "row-style");
    opened = await asked(page, "Replay all …", "Replay all dead letters");
    await button(opened, "Replay").click();
    await told(page, "3 dead letters replayed.");
    await page.getByText("No dead letters: good news").waitFor();
    assert.deepEqual(await letters(), []);
  }));

test("reset a checkpoint, after its name was typed", LIMIT, () =>
  on("/pipelines/copy", "copy", async (page) => {
    const opened = await asked(page, "Reset the checkpoint of eu", "Reset the checkpoint of eu");
    await opened.getByText("The next run of partition eu reads from the beginning.").waitFor();
    const name = opened.getByLabel("To go on, type copy");
    await name.fill("cop");
    assert.ok(await button(opened, "Reset the checkpoint").isDisabled());
    await name.fill("copy");
    await button(opened, "Reset the checkpoint").click();
    await told(page, "The next run of partition eu reads from the beginning.");
    const { partitions } = await get("/api/v1/pipelines/copy/checkpoints");
    assert.equal(partitions[0].cursor, null);
    await row(page, "Checkpoints of the partitions", "eu").getByText("nothing yet").waitFor();
    const { report } = await ended(await start("copy"));
    assert.ok(report.rows.extracted > 240);
  }));

test("set a schedule, and go back to the configuration's", LIMIT, () =>
  on("/pipelines/copy?tab=schedule", "copy", async (page) => {
    const opened = await asked(page, "Change …", "Schedule of copy");
    await opened.getByRole("combobox", { name: "Runs" }).selectOption("weekly");
    await opened.getByRole("combobox", { name: "Day" }).selectOption("fri");
    await opened.getByLabel("At", { exact: true }).fill("04:30");
    await opened.getByRole("combobox", { name: /^Zone/ }).fill("America/New_York");
    await button(opened, "Set the schedule").click();
    await opened.waitFor({ state: "detached" });
    const set = await get("/api/v1/pipelines/copy/schedule");
    assert.deepEqual([set.origin, set.schedule.timezone], ["set", "America/New_York"]);
    await page.getByText("Set by hand, in place of the configuration's.").waitFor();
    await page.getByRole("columnheader", { name: "In America/New_York" }).waitFor();
    await button(await asked(page, "Back to the configuration's …", "Schedule of copy"), "Back to the configuration's").click();
    await page.getByText("From the configuration.").waitFor();
    const back = await get("/api/v1/pipelines/copy/schedule");
    assert.deepEqual([back.origin, back.schedule.timezone], ["config", "Europe/Berlin"]);
  }));

test("all of it is in the audit log", LIMIT, () =>
  on("/audit", "Audit log", async (page) => {
    const { entries } = await get("/api/v1/audit?limit=100");
    const asked = (method, path) => entries.filter((one) => one.via === "session" && one.method === method && one.path === `/api/v1/pipelines/${path}`);
    for (const [method, path, sentence] of [
      ["POST", "words/runs", "Run words"],
      ["POST", "copy/runs", "Run copy"],
      ["POST", "copy/schedule/pause", "Pause copy"],
      ["POST", "copy/schedule/resume", "Resume copy"],
      ["POST", "even/stop", "Stop even"],
      ["POST", "even/start", "Start even"],
      ["POST", "copy/backfills", "Backfill copy"],
      ["POST", "row-style/dead-letters/replay", "Replay dead letters of row-style"],
      ["POST", "copy/checkpoints/reset", "Reset a checkpoint of copy"],
      ["PUT", "copy/schedule", "Set the schedule of copy"],
      ["DELETE", "copy/schedule", "Remove the schedule set for copy"],
    ]) {
      assert.ok(asked(method, path).length > 0, `${method} ${path}`);
      const shown = rows(page, "Audit log").filter({ hasText: sentence }).filter({ hasText: "signed in" });
      await shown.first().getByText("done").waitFor();
    }
    // What was asked for stands there, and what was refused too.
    const backfill = asked("POST", "copy/backfills");
    assert.deepEqual(backfill.map(({ status }) => status < 300).sort(), [false, true]);
    const cancelled = rows(page, "Audit log").filter({ hasText: "Cancel run" });
    await cancelled.first().getByText("done").waitFor();
    assert.ok((await runsOf("networked")).length > 0);
    await page.getByRole("searchbox", { name: "Filter this page" }).fill("backfill");
    const shown = rows(page, "Audit log").filter({ hasText: "done" }).first();
    await shown.getByText("POST /api/v1/pipelines/copy/backfills").click();
    await shown.getByText('"window": "25"').waitFor();
  }));
