// Starts the console: the frame, the first page, and the one stream of events that all pages share.

import { loadSession, stream, toLogin } from "./api.js";
import { announce, dispatch, failed, navigate, prepare, refresh, startRouter } from "./router.js";
import { startShell } from "./shell.js";
import { watch } from "./watch.js";

export { announce, navigate };

const EVENTS = ["run_started", "run_ended", "skipped", "pipeline_changed", "plugins_changed", "lagged"];

const shell = startShell();

async function start() {
  if (location.pathname === "/login") return startRouter();
  prepare();
  // First of all: whoever is not signed in shall not even see a frame fill.
  const now = await loadSession().catch(() => null);
  if (now?.token_needed && !now.signed_in) return toLogin();
  shell.signedIn();
  follow();
  return startRouter();
}

function follow() {
  let heard = false;
  watch("/api/v1/events", {
    ...Object.fromEntries(EVENTS.map((name) => [name, dispatch])),
    connection(state) {
      shell.connection(state);
      if (state !== "open") return;
      // What happened while the connection was lost, or nobody looked, was not heard.
      if (heard && failed()) refresh();
      else if (heard) dispatch({ event: "lagged", missed: 0 });
      heard = true;
    },
  });
}

start();
