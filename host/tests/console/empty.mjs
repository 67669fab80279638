// A daemon without plugins, without a token, of which nothing was asked yet: each page says what to do next.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { LIMIT, PHONE, assertAccessible, assertFits, assertQuiet, launch, open, picture, visit } from "./browser.mjs";

let browser;

before(async () => {
  browser = await launch();
});

after(() => browser?.close());

const PAGES = [
  ["overview", "/", "Pipelines", ["No pipelines yet", "etl-host generate", "plugins folder"]],
  ["runs", "/runs", "Runs", ["No runs yet"]],
  ["servers", "/servers", "Servers", ["No servers yet", "No pools yet"]],
  ["plugins", "/plugins", "Plugins", ["No file is refused", "etl-host install"]],
  ["audit", "/audit", "Audit log", ["Nothing was changed yet"]],
];

for (const [name, path, heading, words] of PAGES) {
  test(`${name}: says what to do next`, LIMIT, async () => {
    for (const [look, options] of [["light", {}], ["dark", { look: "dark" }], ["phone", { viewport: PHONE }]]) {
      const { page, trouble, context } = await open(browser, { signedIn: false, ...options });
      await visit(page, path, heading);
      for (const word of words) await page.getByRole("main").getByText(word).first().waitFor();
      await assertAccessible(page, `${name}, ${look}`);
      await assertFits(page, name);
      await picture(page, `empty-${name}-${look}`);
      assertQuiet(trouble);
      await context.close();
    }
  });
}

test("nobody has to sign in without a token", LIMIT, async () => {
  const { page, trouble } = await open(browser, { signedIn: false });
  await page.goto(`${process.env.ETL_CONSOLE_ADDRESS}/login?next=/runs`);
  await page.getByRole("heading", { level: 1, name: "Runs" }).waitFor();
  assert.equal(await page.getByRole("button", { name: "Sign out" }).count(), 0);
  assertQuiet(trouble);
});
