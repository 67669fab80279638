// Starts the console: the frame, the first page, and the one stream of events that all pages share.

import { loadSession, session, stream } from "./api.js";
import { announce, dispatch, failed, navigate, refresh, startRouter } from "./router.js";
import { startShell } from "./shell.js";

export { announce, navigate };

const EVENTS = ["run_started", "run_ended", "skipped", "pipeline_changed", "plugins_changed", "lagged"];

const shell = startShell();

async function start() {
  if (location.pathname === "/login") return startRouter();
  // Both at once: whoever is not signed in is sent to the login by the first answer.
  const asked = loadSession().catch(() => null);
  const shown = startRouter();
  await asked;
  if (session()?.token_needed && !session().signed_in) return undefined;
  shell.signedIn();
  follow();
  return shown;
}

function follow() {
  let lost = false;
  stream("/api/v1/events", {
    ...Object.fromEntries(EVENTS.map((name) => [name, dispatch])),
    connection(state) {
      shell.connection(state);
      if (state === "open" && lost) {
        // What happened in between was not heard.
        if (failed()) refresh();
        else dispatch({ event: "lagged", missed: 0 });
      }
      lost = state === "lost";
    },
  });
}

start();
