// The history of all pipelines, newest first, a page at a time.

import { address, pipelinePath, runPath } from "./address.js";
import { get } from "./api.js";
import { badge, count, duration, empty, h, replace, time } from "./dom.js";
import { refetch } from "./refetch.js";
import { load, navigate } from "./router.js";
import { table } from "./table.js";

const STATUSES = ["running", "succeeded", "partial", "failed", "cancelled", "interrupted"];

export async function page(context) {
  const { main, query } = context;
  const asked = { pipeline: query.get("pipeline") ?? "", status: query.get("status") ?? "", before: query.get("before") ?? "" };
  const path = address("/api/v1/runs", { ...asked, limit: 50 });
  let [found] = await load(path);

  const names = h("datalist", { id: "pipeline-names" });
  const name = h("input", {
    type: "search", value: asked.pipeline, placeholder: "Pipeline", list: "pipeline-names", autocomplete: "off",
    spellcheck: "false", dataset: { filter: "" }, "aria-keyshortcuts": "/", oninput: suggest, onchange: go,
  });
  const status = h(
    "select",
    { value: asked.status, onchange: go },
    h("option", { value: "" }, "any"),
    STATUSES.map((one) => h("option", { value: one }, one)),
  );

  async function suggest() {
    const text = name.value.trim();
    if (!text) return;
    const { pipelines } = await get(address("/api/v1/pipelines", { search: text, sort: "name", limit: 10 }));
    replace(names, pipelines.map((one) => h("option", { value: one.name })));
  }

  function go() {
    if (name.value.trim() === asked.pipeline && status.value === asked.status) return;
    navigate(address("/runs", { pipeline: name.value.trim(), status: status.value }));
  }

  const filtered = asked.pipeline || asked.status;
  const list = table({
    caption: "Runs",
    key: (run) => run.run_id,
    steady: true,
    columns: columns(),
    tools: [
      h("form", { class: "field", role: "search", onsubmit: (event) => { event.preventDefault(); go(); } },
        h("label", { class: "field filter" }, h("span", { class: "visually-hidden" }, "Pipeline"), name), names),
      h("label", { class: "field" }, h("span", {}, "Status"), status),
      filtered ? h("a", { class: "button button-quiet", href: "/runs" }, "Clear") : null,
    ],
    empty: filtered
      ? empty("No such runs", "No run in the history is of this pipeline and status.", h("a", { class: "button", href: "/runs" }, "Show all"))
      : empty("No runs yet", "A run starts by its schedule, or by the Run button of its pipeline.", h("a", { class: "button", href: "/" }, "To the pipelines")),
  });
  const turn = h("div", { class: "actions" });
  const said = h("p", { class: "quiet" });
  replace(
    main,
    h("div", { class: "page-head" }, h("div", {}, h("h1", {}, "Runs"), h("p", {}, "What runs and what ran, newest first."))),
    list.node,
    h("div", { class: "pager" }, said, turn),
  );
  show();

  function show() {
    list.update(found.runs);
    const before = older(found.next);
    replace(said, found.runs.length ? `${count(found.runs.length)} shown${asked.before ? "" : ", the newest"}` : "");
    replace(
      turn,
      asked.before ? h("a", { class: "button", href: address("/runs", { ...asked, before: "" }) }, "← Newest") : null,
      before ? h("a", { class: "button", href: address("/runs", { ...asked, before }) }, "Older →") : null,
    );
  }

  // What is older does not change.
  if (asked.before) return;
  const freshen = refetch(context, async () => {
    found = await get(path);
    show();
  });
  context.onEvent((event) => {
    if (["run_started", "run_ended", "lagged"].includes(event.event)) freshen();
  });
}

function columns() {
  return [
    { key: "status", label: "Status", sortable: true, cell: (run) => badge(run.status), class: "width-140" },
    { key: "started_at", label: "Run", header: true, sortable: true, cell: started, class: "col-run width-100" },
    { key: "pipeline", label: "Pipeline", sortable: true, cell: (run) => h("a", { href: pipelinePath(run.pipeline) }, run.pipeline), class: "col-name width-180" },
    { key: "trigger", label: "Started by", sortable: true, class: "width-120" },
    { key: "seconds", label: "Took", numeric: true, sortable: true, cell: (run) => duration(run.seconds), class: "width-90" },
    { key: "extracted", label: "Read", numeric: true, sortable: true, cell: (run) => count(run.extracted), class: "width-90" },
    { key: "loaded", label: "Loaded", numeric: true, sortable: true, cell: (run) => count(run.loaded), class: "width-90" },
    { key: "quarantined", label: "Set aside", numeric: true, sortable: true, cell: setAside, class: "width-120" },
    { key: "attempts", label: "Attempts", numeric: true, sortable: true, cell: (run) => count(run.attempts), class: "width-120" },
    { key: "error", label: "Error", cell: failure, class: "col-text" },
  ];
}

function started(run) {
  return h("a", { href: runPath(run.run_id) }, h("span", { class: "visually-hidden" }, `Run of ${run.pipeline}, `), time(run.started_at, { focus: false }));
}

function setAside(run) {
  return run.quarantined ? h("span", { class: "toned tone-warn" }, count(run.quarantined)) : count(run.quarantined);
}

function failure(run) {
  if (!run.error) return "";
  // The pipeline has a column of its own.
  const named = `pipeline ${run.pipeline}, `;
  const text = run.error.startsWith(named) ? run.error.slice(named.length) : run.error;
  return h("span", { class: "clamp", title: run.error }, text);
}

/** The page behind this one: the API gives its address. */
function older(next) {
  if (!next) return null;
  return next.startsWith("/") ? new URL(next, location.origin).searchParams.get("before") : next;
}
