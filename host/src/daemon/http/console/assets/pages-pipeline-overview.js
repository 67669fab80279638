// A pipeline's first tab: its stages with their rows, its partitions and where each stands, and what hangs together.

import * as actions from "./actions-data.js";
import { runPath } from "./address.js";
import { get } from "./api.js";
import { count, empty, h, problem, replace, time } from "./dom.js";
import { graph, stages } from "./graph.js";
import { total } from "./ledger.js";
import { table } from "./table.js";

export async function tab({ about, pane, path, freshen, onChange, onLeave, onProgress }) {
  const picture = h("div", { class: "stages-place" });
  const of = h("span", { class: "quiet" });
  const trouble = h("div", {});
  const list = partitionTable(about, () => {
    freshen();
    checkpoints();
  });
  const dependencies = h("div", { class: "graph-place" }, h("p", { class: "quiet" }, "…"));
  let drawn = null;
  let asked = null;
  onLeave(() => drawn?.close());

  replace(
    pane,
    h("section", { class: "card", "aria-labelledby": "stages-title" }, h("div", { class: "card-head" }, h("h2", { id: "stages-title" }, "Stages"), of), picture),
    h("section", { class: "card", "aria-labelledby": "partitions-title" }, h("div", { class: "card-head" }, h("h2", { id: "partitions-title" }, "Partitions")), trouble, list.node),
    h("section", { class: "card", "aria-labelledby": "graph-title" }, h("div", { class: "card-head" }, h("h2", { id: "graph-title" }, "Dependencies")), dependencies),
    aboutCard(about.pipeline),
  );

  async function rows() {
    const one = about.pipeline;
    // A run that was interrupted has no numbers; the one before it may.
    const counted = one.last_run?.extracted === null ? one.recent?.findLast((run) => run.extracted !== null) : null;
    const run = one.current_run?.started_at ? one.current_run : (counted ?? one.last_run);
    if (!run) {
      replace(picture, stages(one, null));
      return replace(of, "No run yet: the numbers come with the first.");
    }
    if (one.current_run !== run && asked === run.run_id) return undefined;
    const details = await get(`/api/v1/runs/${encodeURIComponent(run.run_id)}`).catch(() => null);
    const partitions = details?.current?.partitions ?? details?.report?.partitions;
    asked = details?.report ? run.run_id : null;
    replace(picture, stages(one, total(partitions)));
    const link = h("a", { href: runPath(run.run_id) }, details?.current ? "the run that goes on" : counted ? "the last run with numbers" : "the last run");
    return replace(of, "Rows of ", link, details?.current ? null : [", ", time(run.finished_at ?? run.started_at)]);
  }

  onProgress((run) => {
    asked = null;
    replace(picture, stages(about.pipeline, total(run.partitions)));
    if (!of.textContent.endsWith("goes on")) replace(of, "Rows of ", h("a", { href: runPath(run.run_id) }, "the run that goes on"));
  });

  async function checkpoints() {
    // Its mistakes stand above.
    if (about.pipeline.state === "broken") {
      list.node.hidden = true;
      return replace(trouble, h("p", { class: "quiet" }, "They are known once the configuration is in order."));
    }
    try {
      const answer = await get(`${path}/checkpoints`);
      replace(trouble);
      list.node.hidden = false;
      list.node.classList.toggle("many", answer.partitions.length > 12);
      return list.update(answer.partitions);
    } catch (error) {
      list.node.hidden = true;
      return replace(trouble, problem(error));
    }
  }

  async function dependenciesOf() {
    const { pipelines } = await get("/api/v1/pipelines");
    drawn?.close();
    drawn = graph(pipelines, about.name);
    replace(dependencies, drawn.node);
  }

  let shape = "";
  const dependsChanged = () => {
    const now = JSON.stringify([about.pipeline.state, about.pipeline.depends_on]);
    const changed = now !== shape;
    shape = now;
    return changed;
  };
  dependsChanged();
  await Promise.all([rows(), checkpoints()]);
  // The rest of the page need not wait for all pipelines.
  dependenciesOf().catch((error) => replace(dependencies, problem(error)));
  onChange(async () => {
    await Promise.all([rows(), checkpoints(), dependsChanged() ? dependenciesOf() : null]);
  });
}

function partitionTable(about, done) {
  return table({
    caption: "Checkpoints of the partitions",
    key: (partition) => partition.name,
    filter: "Filter partitions",
    columns: [
      { key: "name", label: "Partition", header: true, sortable: true, class: "col-name" },
      { key: "cursor", label: "Loaded up to", sortable: true, class: "col-cursor", cell: (one) => (one.cursor ? h("code", {}, one.cursor) : h("span", { class: "quiet" }, "nothing yet")) },
      { key: "epoch", label: "Epoch", numeric: true, sortable: true, cell: (one) => count(one.epoch) },
      { key: "updated_at", label: "When", sortable: true, cell: (one) => time(one.updated_at) },
      { key: "run_id", label: "By", cell: byRun },
      { key: "fingerprint", label: "Read from", cell: (one) => (one.fingerprint ? h("span", { class: "clamp mono", title: one.fingerprint }, one.fingerprint) : "–"), class: "col-text" },
      {
        key: "action", label: "", title: "Action", class: "col-action",
        cell: (one) => h("button", { type: "button", class: "button-small", "aria-haspopup": "dialog", "aria-label": `Reset the checkpoint of ${one.name}`, disabled: one.cursor === null, onclick: () => actions.reset(about.pipeline, one.name, { done }) }, "Reset …"),
      },
    ],
    sort: { key: "name", descending: false },
    empty: empty("No partition was begun yet", "The first run makes a checkpoint for each. Start one with Run above."),
  });
}

function byRun(one) {
  if (!one.run_id) return "–";
  const id = one.run_id.split("/", 1)[0];
  return h("a", { href: runPath(id), title: one.run_id }, "run", h("span", { class: "visually-hidden" }, ` that loaded ${one.name} last`));
}

function aboutCard(one) {
  const fact = (label, value) => (value ? [h("dt", {}, label), h("dd", {}, value)] : null);
  return h(
    "section",
    { class: "card", "aria-labelledby": "about-title" },
    h("div", { class: "card-head" }, h("h2", { id: "about-title" }, "About")),
    h(
      "dl",
      { class: "facts" },
      fact("Reads from", one.route?.source),
      fact("Writes to", one.route?.sink),
      fact("Delivery", one.delivery),
      fact("Isolation", one.isolation),
      fact("Plugin", [h("code", {}, one.plugin), ` version ${one.version}`]),
      fact("Checksum", h("code", { title: "SHA-256 of the plugin's file" }, one.sha256)),
    ),
  );
}
