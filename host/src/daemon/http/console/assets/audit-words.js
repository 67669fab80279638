// Says in words what a request to the API was meant to change.

import { pipelinePath, runPath } from "./address.js";
import { h } from "./dom.js";

// What is done to a pipeline. `{}` is its name.
const PIPELINE = {
  "POST runs": "Run {}",
  "POST start": "Start {}",
  "POST stop": "Stop {}",
  "PUT schedule": "Set the schedule of {}",
  "DELETE schedule": "Remove the schedule set for {}",
  "POST schedule/pause": "Pause {}",
  "POST schedule/resume": "Resume {}",
  "POST checkpoints/reset": "Reset a checkpoint of {}",
  "POST dead-letters/replay": "Replay dead letters of {}",
  "POST backfills": "Backfill {}",
  "DELETE ": "Remove {}",
};

/** `{text, link, name}`: what was asked for, and what it was about. */
export function words({ method, path }) {
  const [, name, rest] = path.match(/^\/api\/v1\/pipelines\/([^/]+)\/?(.*)$/) ?? [];
  if (name) {
    const plain = decoded(name);
    const form = PIPELINE[`${method} ${rest}`];
    if (form) return { text: form, name: plain, href: pipelinePath(plain) };
  }
  const [, run, does] = path.match(/^\/api\/v1\/runs\/([^/]+)\/?(.*)$/) ?? [];
  if (run && method === "POST" && does === "cancel") return { text: "Cancel run {}", name: decoded(run), href: runPath(decoded(run)) };
  if (path === "/api/v1/session") return { text: method === "DELETE" ? "Sign out" : "Sign in" };
  return { text: `${method} ${path}` };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** The same as nodes, with a link to the pipeline or the run. */
export function sentence(entry) {
  const { text, name, href } = words(entry);
  const [before, after] = text.split("{}");
  return [before, name ? h("a", { href }, name) : null, after ?? ""];
}

/** The same as text. */
export function plain(entry) {
  const { text, name } = words(entry);
  return text.replace("{}", name ?? "");
}
