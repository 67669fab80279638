// Who changed what, or tried to, newest first.

import { address, runPath } from "./address.js";
import { get } from "./api.js";
import { plain, sentence } from "./audit-words.js";
import { badge, empty, h, replace, time } from "./dom.js";
import { refetch } from "./refetch.js";
import { table } from "./table.js";

const VIA = {
  token: "with the token", session: "signed in", socket: "by the daemon's socket", loopback: "on its machine, no token",
  open: "not signed in yet",
};

export async function page(context) {
  const { main, query } = context;
  const before = query.get("before") ?? "";
  const path = address("/api/v1/audit", { before, limit: 50 });
  let found = await get(path);

  const list = table({
    caption: "Audit log",
    key: (entry) => entry.id,
    columns: [
      { key: "at", label: "When", cell: (entry) => time(entry.at), class: "col-run" },
      { key: "what", label: "What", header: true, value: (entry) => `${plain(entry)} ${entry.path}`, cell: what, class: "col-text" },
      { key: "status", label: "Outcome", value: (entry) => `${outcome(entry)[1]} ${entry.status} ${entry.error ?? ""}`, cell: result, class: "col-text" },
      { key: "who", label: "Who", value: (entry) => `${entry.peer ?? ""} ${VIA[entry.via] ?? entry.via}`, cell: who },
    ],
    filter: "Filter this page",
    empty: empty("Nothing was changed yet", "Whatever somebody changes here, by the command line or by the API is written down."),
  });
  const turn = h("div", { class: "actions" });
  replace(
    main,
    h("div", { class: "page-head" }, h("div", {}, h("h1", {}, "Audit log"), h("p", {}, "Everything that anybody changed or tried to change, newest first."))),
    list.node,
    h("div", { class: "pager" }, h("span", {}), turn),
  );
  show();

  function show() {
    list.update(found.entries);
    replace(
      turn,
      before ? h("a", { class: "button", href: "/audit" }, "← Newest") : null,
      found.next === null || found.next === undefined ? null : h("a", { class: "button", href: address("/audit", { before: found.next }) }, "Older →"),
    );
  }

  if (before) return;
  const freshen = refetch(context, async () => {
    found = await get(path);
    show();
  }, { every: 10_000 });
  context.onEvent(freshen);
}

function what(entry) {
  const request = entry.request;
  const any = request !== null && request !== undefined && Object.keys(request).length > 0;
  return h(
    "div",
    { class: "cell-lines" },
    h("span", { class: "cell-name" }, sentence(entry)),
    any
      ? h("details", { class: "request" }, h("summary", {}, h("code", { class: "quiet" }, `${entry.method} ${entry.path}`)), h("pre", {}, JSON.stringify(request, null, 2)))
      : h("code", { class: "quiet" }, `${entry.method} ${entry.path}`),
  );
}

function outcome({ status }) {
  if (status < 300) return ["succeeded", "done"];
  if (status === 401 || status === 403) return ["failed", "not allowed"];
  if (status < 500) return ["partial", "refused"];
  return ["failed", "failed"];
}

function result(entry) {
  const [state, word] = outcome(entry);
  return h(
    "div",
    { class: "cell-lines" },
    h("span", { class: "cell-line" }, badge(state, word), h("span", { class: "cell-note" }, String(entry.status))),
    entry.error ? h("span", { class: "cell-note" }, entry.error) : null,
    entry.run_id ? h("a", { class: "cell-note", href: runPath(entry.run_id) }, "Show the run") : null,
  );
}

function who(entry) {
  return h("div", { class: "cell-lines" }, h("span", {}, entry.peer || "–"), h("span", { class: "cell-note" }, VIA[entry.via] ?? entry.via));
}
