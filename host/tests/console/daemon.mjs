// The daemon as a program sees it: by its HTTP API, with the token. What the console shows or did is held against it.

import assert from "node:assert/strict";

import { address, token } from "./browser.mjs";

const LONGEST = 60_000;

/** A request as a program makes it: `{status, headers, body}`. `given` is another token, or null for none. */
export async function ask(method, path, body, given = token) {
  const headers = {};
  if (given) headers.Authorization = `Bearer ${given}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await fetch(address + path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  const text = await answer.text();
  return { status: answer.status, headers: answer.headers, body: text ? JSON.parse(text) : null };
}

/** What the API shows. */
export async function get(path) {
  const { status, body } = await ask("GET", path);
  assert.equal(status, 200, `${path}: ${JSON.stringify(body)}`);
  return body;
}

export const pipeline = (name) => get(`/api/v1/pipelines/${name}`);

/** The history of a pipeline, newest first. */
export async function runsOf(name) {
  const { runs } = await get(`/api/v1/runs?pipeline=${name}&limit=100`);
  return runs;
}

/** Starts a run, and gives its identifier. */
export async function start(name, options = {}) {
  const { status, body } = await ask("POST", `/api/v1/pipelines/${name}/runs`, options);
  assert.equal(status, 202, JSON.stringify(body));
  return body.run_id;
}

/** Opens a stream; `until` follows it to the event that is waited for, and gives its data. */
export async function listen(path) {
  const answer = await fetch(address + path, { headers: { Authorization: `Bearer ${token}` }, signal: AbortSignal.timeout(LONGEST) });
  assert.equal(answer.status, 200, path);
  return {
    async until(wanted) {
      for await (const { event, data } of eventsOf(answer.body)) if (wanted(event, data)) return data;
      throw new Error(`${path} ended without the event`);
    },
  };
}

async function* eventsOf(body) {
  const decoder = new TextDecoder();
  let text = "";
  for await (const part of body) {
    text += decoder.decode(part, { stream: true });
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const fields = block.split("\n").map((line) => line.split(/: ?(.*)/s));
      const of = (name) => fields.filter(([key]) => key === name).map(([, value]) => value).join("\n");
      // A comment is a sign of life, and no event.
      if (of("event")) yield { event: of("event"), data: of("data") ? JSON.parse(of("data")) : null };
    }
  }
}

/** Follows a stream to the event that is waited for, and gives its data. */
export async function hear(path, wanted) {
  return (await listen(path)).until(wanted);
}

/** Waits for the end of a run, and gives its details. */
export async function ended(run) {
  await hear(`/api/v1/runs/${run}/progress`, (event) => event === "end");
  return get(`/api/v1/runs/${run}`);
}

/** Waits until a plugin has logged this. */
export async function logged(name, run, message) {
  // A pipeline's first run makes its log.
  await hear(`/api/v1/runs/${run}/progress`, (event, data) => event === "end" || data.partitions.length > 0);
  return hear(`/api/v1/pipelines/${name}/logs?run=${run}&follow=true`, (event, line) => event === "line" && line.message.includes(message));
}
