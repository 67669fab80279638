// A browser for the tests of this folder, and what each of them wants to know of a page: whether anything went wrong in
// it, whether people can use it, what it looks like. The daemon is started by `host/tests/console.rs`.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

/** Where the daemon is. */
export const address = needed("ETL_CONSOLE_ADDRESS");
/** What it wants to see. */
export const token = process.env.ETL_CONSOLE_TOKEN ?? "";

const pictures = process.env.ETL_CONSOLE_SCREENSHOTS;

export const WIDE = { width: 1280, height: 800 };
export const PHONE = { width: 360, height: 740 };
/** For one test; a page that shows nothing fails long before. */
export const LIMIT = { timeout: 120_000 };
const PATIENCE = 20_000;

const packages = createRequire(new URL("../../../target/tools/browser/package.json", import.meta.url));

function needed(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is missing: run these tests with "cargo test -p etl-host --test console"`);
  return value;
}

function load(name) {
  try {
    return packages(name);
  } catch (error) {
    throw new Error(`${name} is missing: run scripts/setup-dev.sh test`, { cause: error });
  }
}

/** Starts a browser with a profile of its own, which goes with it. */
export async function launch() {
  const { chromium } = load("playwright-core");
  return chromium.launch({
    executablePath: process.env.ETL_TEST_CHROMIUM || "/usr/bin/chromium",
    args: [
      "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync",
    ],
  });
}

/**
 * A window without a history: `{context, page, trouble}`. `trouble` gathers what must not happen: an error in the
 * console, a breach of the content security policy, a request to elsewhere. `refusals`: an answer such as 401 is part
 * of the test, and the browser's line about it no trouble.
 */
export async function open(browser, { signedIn = true, look = "light", viewport = WIDE, refusals = false } = {}) {
  const context = await browser.newContext({ viewport, colorScheme: look, reducedMotion: "reduce", locale: "en-GB", timezoneId: "Europe/Berlin" });
  context.setDefaultTimeout(PATIENCE);
  const trouble = [];
  await context.addInitScript(() => {
    addEventListener("securitypolicyviolation", (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`));
  });
  context.on("request", (request) => {
    const { origin, protocol } = new URL(request.url());
    if (origin !== address && protocol !== "blob:") trouble.push(`a request to ${request.url()}`);
  });
  context.on("weberror", (error) => trouble.push(`an error nobody caught: ${error.error().stack}`));
  context.on("console", (message) => {
    const expected = refusals && message.text().startsWith("Failed to load resource");
    if (message.type() === "error" && !expected) trouble.push(`${message.text()} (${message.location().url})`);
  });
  if (signedIn && token) await signIn(context);
  return { context, page: await context.newPage(), trouble };
}

/** As the login does it; the context keeps the cookie. */
export async function signIn(context) {
  const answer = await context.request.post(`${address}/api/v1/session`, { data: { token } });
  assert.equal(answer.status(), 200, await answer.text());
}

/** Goes to an address, and waits for the page's heading. */
export async function visit(page, path, heading) {
  await page.goto(address + path);
  await page.getByRole("heading", { level: 1, name: heading }).waitFor();
}

/** Finds what keeps people from using the page: of what axe judges, everything serious and critical. */
export async function assertAccessible(page, what) {
  await page.evaluate(axe());
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  const grave = violations.filter((one) => ["serious", "critical"].includes(one.impact));
  const said = grave.map((one) => `${one.id}: ${one.help}\n${one.nodes.slice(0, 5).map((node) => `    ${node.html}\n    ${node.failureSummary}`).join("\n")}`);
  assert.deepEqual(said, [], `${what}: ${said.join("\n")}`);
}

let source = null;

function axe() {
  source ??= `${readFileSync(packages.resolve("axe-core/axe.min.js"), "utf8")}; undefined`;
  return source;
}

/** The page is no wider than the window: what is wide scrolls in a place of its own. */
export async function assertFits(page, what) {
  const [content, room] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
  assert.ok(content <= room, `${what} is ${content} px wide in a window of ${room} px`);
}

/** Fails if anything went wrong so far. */
export function assertQuiet(trouble) {
  assert.deepEqual(trouble, []);
}

/** Keeps a picture of the whole page, or of what the window shows, if pictures are wanted. */
export async function picture(page, name, { whole = true } = {}) {
  if (!pictures) return;
  mkdirSync(pictures, { recursive: true });
  await page.mouse.move(0, 0);
  await page.screenshot({ path: join(pictures, `${name}.png`), fullPage: whole, animations: "disabled" });
}
