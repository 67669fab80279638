// Who has not signed in sees the login and nothing else; a page from elsewhere can neither read nor act.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";

import { LIMIT, address, assertQuiet, launch, open, signIn, token, visit } from "./browser.mjs";
import { ask, ended, get, runsOf, start } from "./daemon.mjs";
import { dialog } from "./places.mjs";

let browser;
let run;

before(async () => {
  browser = await launch();
  [run] = await runsOf("copy");
});

after(() => browser?.close());

const PAGES = () => ["/", "/pipelines/copy", "/pipelines/copy?tab=configuration", "/runs", `/runs/${run.run_id}`, "/servers", "/plugins", "/audit"];
const login = (page) => page.getByRole("heading", { level: 1, name: "Sign in to etl-host" }).waitFor();

/** What somebody who may not act might have done all the same. */
async function standing() {
  const { pipelines } = await get("/api/v1/pipelines");
  const { runs } = await get("/api/v1/runs?limit=500");
  const { next: _, ...schedule } = await get("/api/v1/pipelines/copy/schedule");
  const checkpoints = await get("/api/v1/pipelines/copy/checkpoints");
  return { pipelines: pipelines.map(({ name, state }) => [name, state]), runs: runs.map((one) => one.run_id), schedule, checkpoints };
}

async function session(context) {
  const cookies = await context.cookies(address);
  assert.equal(cookies.length, 1);
  return cookies[0];
}

test("without a session every page is the login, and nothing was told", LIMIT, async () => {
  for (const cookie of [null, "0".repeat(64), token]) {
    const { page, context } = await open(browser, { signedIn: false, refusals: true });
    if (cookie !== null) {
      // The name that the daemon gives it, with another content.
      await signIn(context);
      const { name } = await session(context);
      await context.clearCookies();
      await context.addCookies([{ name, value: cookie, url: address, httpOnly: true, sameSite: "Strict" }]);
    }
    const told = [];
    page.on("response", (answer) => {
      if (new URL(answer.url()).pathname.startsWith("/api/")) told.push([new URL(answer.url()).pathname, answer.status()]);
    });
    // What a page asks for is refused whatever is wrong with the session; a few show it.
    for (const path of cookie === null ? PAGES() : PAGES().slice(0, 2)) {
      await page.goto(address + path);
      await login(page);
      assert.equal(new URL(page.url()).searchParams.get("next"), path);
      const text = await page.locator("body").innerText();
      for (const name of ["copy", "misbehaving", run.run_id]) assert.ok(!text.includes(name), `${path} tells of ${name}: ${text}`);
      assert.equal(await page.getByRole("table").count(), 0);
    }
    const open_ = told.filter(([path, status]) => status !== 401 && path !== "/api/v1/session");
    assert.deepEqual(open_, []);
    await context.close();
  }
});

test("no route answers without the token or with a wrong one, and nothing is done", LIMIT, async (t) => {
  const { paths } = await get("/api/openapi.json");
  const before = await standing();
  let asked = 0;
  for (const [template, methods] of Object.entries(paths)) {
    const path = template.replace("{name}", "copy").replace("{id}", run.run_id);
    if (["/healthz", "/readyz", "/api/v1/session"].includes(path)) continue;
    for (const method of Object.keys(methods).filter((one) => /^(get|put|post|delete|patch)$/.test(one))) {
      for (const given of [null, `${token}x`, token.slice(1)]) {
        const { status, body } = await ask(method.toUpperCase(), path, ["get", "delete"].includes(method) ? undefined : {}, given);
        assert.equal(status, 401, `${method} ${path}`);
        assert.ok(!JSON.stringify(body).includes(token));
        asked += 1;
      }
    }
  }
  t.diagnostic(`${asked} requests were refused`);
  assert.ok(asked > 90, String(asked));
  assert.deepEqual(await standing(), before);
});

test("a wrong token is refused, the right one leads to where somebody wanted to be", LIMIT, async () => {
  const { page, context, trouble } = await open(browser, { signedIn: false, refusals: true });
  await page.goto(`${address}/runs?pipeline=copy`);
  await login(page);
  const field = page.getByRole("textbox", { name: "Token" });
  assert.equal(await field.getAttribute("type"), "password");
  await field.fill(`${token}x`);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("alert").getByText("This is not the token of this daemon.").waitFor();
  assert.equal(await field.getAttribute("aria-invalid"), "true");
  assert.deepEqual(await context.cookies(address), []);
  await field.fill(token);
  await field.press("Enter");
  await page.getByRole("heading", { level: 1, name: "Runs" }).waitFor();
  assert.equal(new URL(page.url()).search, "?pipeline=copy");
  assert.ok(!(await page.content()).includes(token));
  assert.equal(await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie])), '[{},{},""]');
  assertQuiet(trouble);
});

test("the login leads nowhere else", LIMIT, async () => {
  for (const next of ["https://example.com/", "//example.com/", "/\\example.com/", "javascript:alert(1)", "data:text/html,x"]) {
    const { page, context } = await open(browser, { signedIn: false, refusals: true });
    await page.goto(`${address}/login?next=${encodeURIComponent(next)}`);
    await page.getByRole("textbox", { name: "Token" }).fill(token);
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByRole("heading", { level: 1, name: "Pipelines" }).waitFor();
    assert.equal(new URL(page.url()).origin, address, next);
    await context.close();
  }
});

test("the session's cookie is out of reach of scripts and of other sites", LIMIT, async () => {
  const { context, page } = await open(browser);
  const cookie = await session(context);
  assert.deepEqual([cookie.httpOnly, cookie.sameSite, cookie.path, cookie.domain], [true, "Strict", "/", "127.0.0.1"]);
  assert.notEqual(cookie.value, token);
  assert.ok(cookie.expires > 0 && cookie.expires - Date.now() / 1000 <= 12 * 3600 + 5);
  await visit(page, "/", "Pipelines");
  assert.equal(await page.evaluate(() => document.cookie), "");
});

test("signing out ends the session for whoever has the cookie", LIMIT, async () => {
  const { context, page } = await open(browser, { refusals: true });
  const cookie = await session(context);
  await visit(page, "/", "Pipelines");
  await page.getByRole("button", { name: "Sign out" }).click();
  await login(page);
  assert.deepEqual(await context.cookies(address), []);
  // Nothing of it is left in the browser's memory of pages.
  await page.goBack();
  await login(page);
  await context.addCookies([cookie]);
  await page.goto(address);
  await login(page);
  assert.equal((await context.request.get(`${address}/api/v1/pipelines`)).status(), 401);
});

/** Ends a session behind the back of its pages: somebody signs out elsewhere, or the time is up. */
async function endSession(context) {
  const { csrf } = await (await context.request.get(`${address}/api/v1/session`)).json();
  const cookie = await session(context);
  const answer = await context.request.delete(`${address}/api/v1/session`, { headers: { "X-CSRF-Token": csrf } });
  assert.equal(answer.status(), 204);
  await context.addCookies([cookie]);
}

test("a session that has ended does nothing more", LIMIT, async () => {
  const { context, page } = await open(browser, { refusals: true });
  // The page hears nothing, so that it does not notice before it acts.
  await context.route("**/api/v1/events", () => {});
  await visit(page, "/pipelines/copy", "copy");
  const before = await standing();
  await page.getByRole("button", { name: "Run …", exact: true }).click();
  await dialog(page, "Run copy").waitFor();
  await endSession(context);
  const answered = page.waitForResponse((answer) => answer.request().method() === "POST");
  await page.getByRole("button", { name: "Run", exact: true }).click();
  assert.equal((await answered).status(), 401);
  await login(page);
  assert.equal(await page.getByRole("dialog").count(), 0);
  assert.deepEqual(await standing(), before);
});

test("a page that is open when its session ends asks for the token again", LIMIT, async () => {
  const { context, page } = await open(browser, { refusals: true });
  await visit(page, "/pipelines/copy", "copy");
  await page.getByText("live", { exact: true }).waitFor();
  await endSession(context);
  await ended(await start("copy"));
  await login(page);
  assert.equal(new URL(page.url()).searchParams.get("next"), "/pipelines/copy");
});

test("a cookie alone changes nothing: the page's own word has to come with it", LIMIT, async () => {
  const { context } = await open(browser);
  const other = await open(browser);
  const csrfOf = async (one) => (await (await one.request.get(`${address}/api/v1/session`)).json()).csrf;
  const pause = (headers) => context.request.post(`${address}/api/v1/pipelines/copy/schedule/pause`, { headers });
  for (const headers of [{}, { "X-CSRF-Token": "" }, { "X-CSRF-Token": "0".repeat(64) }, { "X-CSRF-Token": await csrfOf(other.context) }]) {
    assert.equal((await pause(headers)).status(), 403);
  }
  assert.equal((await get("/api/v1/pipelines/copy/schedule")).paused, false);
  assert.equal((await pause({ "X-CSRF-Token": await csrfOf(context) })).status(), 200);
  assert.equal((await get("/api/v1/pipelines/copy/schedule")).paused, true);
  await ask("POST", "/api/v1/pipelines/copy/schedule/resume");
});

/** A page of somebody else, at the same address with another port, or under another name. */
async function elsewhere(html) {
  const server = createServer((_, answer) => {
    answer.setHeader("content-type", "text/html; charset=utf-8");
    answer.end(`<!doctype html><html lang="en"><title>elsewhere</title><body>${html}</body></html>`);
  });
  await new Promise((resume) => server.listen(0, "127.0.0.1", resume));
  // A test that fails does not wait for it.
  server.unref();
  const { port } = server.address();
  return { origins: [`http://127.0.0.1:${port}`, `http://localhost:${port}`], close: () => server.closeAllConnections() ?? server.close() };
}

test("a page from elsewhere can neither read nor act", { timeout: 240_000 }, async () => {
  const other = await elsewhere(`<form id="form" method="post" enctype="text/plain" target="frame"><input name='{"limit":1,"x":"' value='"}'></form><iframe name="frame"></iframe>`);
  const before = await standing();
  try {
    for (const origin of other.origins) {
      const { context, page } = await open(browser, { refusals: true });
      await page.goto(origin);
      const got = await page.evaluate(reach, { address, runs: "/api/v1/pipelines/copy/runs", stop: "/api/v1/pipelines/copy/stop", pause: "/api/v1/pipelines/copy/schedule/pause" });
      assert.deepEqual(got, [], `${origin} reached something`);
      // A form takes the whole window there, with what the browser adds by itself.
      for (const path of ["/api/v1/pipelines/copy/runs", "/api/v1/pipelines/copy/start", "/api/v1/session"]) {
        for (const [target, content, refusal] of [["frame", false, 403], ["_self", false, 403], ["frame", true, 415], ["_self", true, 415]]) {
          await page.goto(origin);
          const answered = page.waitForResponse((answer) => answer.url() === address + path && answer.request().method() === "POST");
          await page.evaluate(([action, where, full]) => {
            const form = document.getElementById("form");
            form.action = action;
            form.target = where;
            // What a form can send is no JSON, and that alone is refused.
            form.elements[0].disabled = !full;
            form.submit();
          }, [address + path, target, content]);
          assert.equal((await answered).status(), refusal, `${origin} ${path} ${target}`);
          if (target === "_self") await page.waitForURL(address + path);
        }
      }
      await context.close();
    }
  } finally {
    other.close();
  }
  assert.deepEqual(await standing(), before);
});

/** Runs in the page from elsewhere: tries what a page can, and gives what has come through. */
async function reach({ address, runs, stop, pause }) {
  const reached = [];
  const tried = async (what, attempt) => {
    try {
      const got = await attempt();
      if (got) reached.push(`${what}: ${got}`);
    } catch {
      // As it should be.
    }
  };
  const lists = `${address}/api/v1/pipelines`;
  await tried("fetch", async () => (await fetch(lists, { credentials: "include" })).text());
  await tried("fetch of a page", async () => (await fetch(`${address}/`, { credentials: "include" })).text());
  for (const headers of [{ "Content-Type": "text/plain" }, { "Content-Type": "application/json" }, { "X-CSRF-Token": "x" }]) {
    await tried("post", async () => (await fetch(address + runs, { method: "POST", credentials: "include", headers, body: "{}" })).text());
  }
  // Whether these were done is seen by the daemon's state afterwards: such answers tell a page nothing.
  for (const path of [runs, stop, pause]) {
    await tried("post without cors", async () => (await fetch(address + path, { method: "POST", mode: "no-cors", credentials: "include" })).text());
  }
  await tried("delete", async () => (await fetch(`${lists}/copy`, { method: "DELETE", credentials: "include" })).text());
  await tried("beacon", async () => {
    navigator.sendBeacon(address + runs, "{}");
  });
  const element = (name, props) => new Promise((resume) => {
    const node = Object.assign(document.createElement(name), props);
    node.onload = () => resume(`${name} was loaded`);
    node.onerror = () => resume(null);
    document.body.append(node);
  });
  await tried("image", () => element("img", { src: lists }));
  await tried("script", () => element("script", { src: lists }));
  await tried("style", () => element("link", { rel: "stylesheet", href: lists }));
  await tried("events", () => new Promise((resume) => {
    const source = new EventSource(`${address}/api/v1/events`, { withCredentials: true });
    const end = (said) => {
      source.close();
      resume(said);
    };
    source.onopen = () => end("a stream was opened");
    source.onerror = () => end(null);
  }));
  for (const path of ["/", "/api/v1/pipelines"]) {
    await tried(`frame of ${path}`, async () => {
      const frame = document.createElement("iframe");
      const loaded = new Promise((resume) => {
        frame.onload = resume;
      });
      frame.src = address + path;
      document.body.append(frame);
      await loaded;
      return frame.contentDocument?.body?.textContent;
    });
  }
  return reached;
}

test("no page lets itself be framed", LIMIT, async () => {
  const other = await elsewhere(`<iframe src="${address}/" title="framed"></iframe>`);
  try {
    for (const origin of other.origins) {
      const { context, page } = await open(browser, { refusals: true });
      const said = [];
      page.on("console", (message) => said.push(message.text()));
      await page.goto(origin);
      await page.frameLocator("iframe").locator("body").waitFor({ state: "attached" });
      assert.equal(await page.frameLocator("iframe").getByRole("heading").count(), 0);
      assert.ok(said.some((line) => line.includes("frame-ancestors") || line.includes("X-Frame-Options")), said.join("\n"));
      await context.close();
    }
  } finally {
    other.close();
  }
});

test("a link from elsewhere, such as a ticket, shows the run to who has signed in", LIMIT, async () => {
  const other = await elsewhere(`<a href="${address}/runs/${run.run_id}">the run</a>`);
  try {
    for (const origin of other.origins) {
      const { context, page } = await open(browser);
      await page.goto(origin);
      await page.getByRole("link", { name: "the run" }).click();
      await page.getByRole("heading", { level: 1, name: "Run of copy" }).waitFor();
      await context.close();
    }
  } finally {
    other.close();
  }
});

test("pages and assets say what browsers may do with them", LIMIT, async () => {
  const policy =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
  const html = await (await fetch(`${address}/`)).text();
  const assets = [...html.matchAll(/(?:src|href)="(\/assets\/[^"]+)"/g)].map(([, path]) => path);
  assert.ok(assets.length > 5);
  for (const path of [...PAGES(), "/login", ...assets]) {
    const answer = await fetch(address + path);
    assert.equal(answer.status, 200, path);
    const header = (name) => answer.headers.get(name);
    assert.equal(header("x-content-type-options"), "nosniff", path);
    assert.equal(header("x-frame-options"), "DENY", path);
    assert.equal(header("referrer-policy"), "no-referrer", path);
    assert.equal(header("set-cookie"), null, path);
    assert.equal(header("access-control-allow-origin"), null, path);
    if (!path.startsWith("/assets/")) assert.equal(header("content-security-policy"), policy, path);
    const body = await answer.text();
    assert.ok(!/https?:\/\/(?!www\.w3\.org\/)/.test(body), `${path} names an address elsewhere`);
  }
  for (const path of ["/assets/../index.html", "/assets/%2e%2e/index.html", "/assets/nothing.js", "/assets/"]) {
    const { status } = await fetch(address + path);
    assert.ok([400, 401, 404].includes(status), `${path}: ${status}`);
  }
});

test("text of the API is text, whatever it says", LIMIT, async () => {
  const { page, trouble, context } = await open(browser);
  const evil = `<img src=x onerror="globalThis.evil=1"><script>globalThis.evil=1</script>`;
  await context.route("**/api/v1/pipelines/copy", async (route) => {
    const answer = await route.fetch();
    const body = await answer.json();
    await route.fulfill({ response: answer, json: { ...body, description: evil, schedule: evil, version: evil } });
  });
  await visit(page, "/pipelines/copy", "copy");
  await page.getByText(evil, { exact: true }).first().waitFor();
  assert.equal(await page.evaluate(() => globalThis.evil), undefined);
  assertQuiet(trouble);
});

