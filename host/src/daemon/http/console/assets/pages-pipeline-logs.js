// A pipeline's log, with what comes.

import { replace } from "./dom.js";
import { logView } from "./log.js";

export async function tab({ about, pane, onLeave }) {
  const log = logView({ pipeline: about.name, live: true });
  onLeave(log.close);
  replace(pane, log.node);
}
