// Rows in quarantine: why each was refused, what it holds, and having them loaded again.

import { replay } from "./actions-data.js";
import { address, pipelinePath, remember, runPath } from "./address.js";
import { get } from "./api.js";
import { badge, count, empty, h, plural, problem, replace, time } from "./dom.js";
import { table } from "./table.js";

const PAGE = 50;

export async function tab({ about, query, pane, path, freshen, onChange }) {
  const asked = { stage: query.get("stage") ?? "", partition: query.get("partition") ?? "", run: query.get("run") ?? "", all: query.get("all") === "true" };
  const chosen = new Set();
  let letters = [];
  let next = null;

  const stage = h("select", { value: asked.stage, onchange: again }, h("option", { value: "" }, "any"), ["extract", "transform", "load"].map((one) => h("option", { value: one }, one)));
  const partition = h("input", { type: "text", value: asked.partition, autocomplete: "off", spellcheck: "false", onchange: again });
  const run = h("input", { type: "text", value: asked.run, autocomplete: "off", spellcheck: "false", onchange: again });
  const all = h("input", { type: "checkbox", checked: asked.all, onchange: again });
  const some = h("button", { type: "button", disabled: true, "aria-haspopup": "dialog", onclick: () => replay(about.pipeline, { ids: [...chosen] }, { done }) }, "Replay selected …");
  const everything = h("button", { type: "button", "aria-haspopup": "dialog", onclick: () => replay(about.pipeline, { filter: filter() }, { done }) }, "Replay all …");
  const said = h("p", { class: "quiet", role: "status" });
  const more = h("button", { type: "button", onclick: () => look({ further: true }) }, "Load more");
  const trouble = h("div", {});
  const nothing = h("div", {});
  const list = table({ caption: "Dead letters", key: (letter) => letter.id, columns: columns(), filter: "Filter dead letters", empty: nothing });

  replace(
    pane,
    h(
      "div",
      { class: "toolbar" },
      h("label", { class: "field" }, h("span", {}, "Stage"), stage),
      h("label", { class: "field" }, h("span", {}, "Partition"), partition),
      h("label", { class: "field" }, h("span", {}, "Run"), run),
      h("label", { class: "check" }, all, h("span", {}, "Replayed ones too")),
      h("div", { class: "actions toolbar-end" }, some, everything),
    ),
    trouble,
    list.node,
    h("div", { class: "pager" }, said, more),
  );
  onChange(() => look());
  await look();

  function filter() {
    return { stage: stage.value, partition: partition.value.trim(), run: run.value.trim() };
  }

  function again() {
    Object.assign(asked, filter(), { all: all.checked });
    remember(pipelinePath(about.name), { tab: "dead-letters", ...asked, all: asked.all || "" });
    chosen.clear();
    look();
  }

  function done() {
    chosen.clear();
    freshen();
  }

  async function look({ further = false } = {}) {
    // What was loaded before is asked for anew in one go, so that nothing on the page goes away.
    const limit = further ? PAGE : Math.min(500, Math.max(PAGE, letters.length));
    const wanted = address(`${path}/dead-letters`, { ...asked, all: asked.all || "", after: further ? next : "", limit });
    try {
      const answer = await get(wanted);
      letters = further ? [...letters, ...answer.dead_letters] : answer.dead_letters;
      next = answer.next;
      replace(trouble);
    } catch (error) {
      letters = [];
      next = null;
      replace(trouble, problem(error));
    }
    show();
  }

  function show() {
    const narrowed = asked.stage || asked.partition || asked.run;
    replace(
      nothing,
      trouble.hasChildNodes() ? null
        : narrowed ? empty("No such dead letters", "No row in quarantine is of this stage, partition and run.", h("a", { class: "button", href: address(pipelinePath(about.name), { tab: "dead-letters" }) }, "Show all"))
          : empty("No dead letters: good news", "Every row that was read was loaded, or left out on purpose."),
    );
    list.update(letters);
    more.hidden = !next;
    replace(said, letters.length ? `${plural(letters.length, "dead letter")}${next ? " shown, there are more" : ""}` : "");
    everything.disabled = !letters.some((letter) => letter.can_be_replayed);
    tell();
  }

  function tell() {
    some.disabled = chosen.size === 0;
    replace(some, chosen.size ? `Replay ${count(chosen.size)} selected …` : "Replay selected …");
  }

  function columns() {
    return [
      { key: "choose", label: "", title: "Select", cell: choose, value: () => "", class: "col-choose" },
      { key: "id", label: "No.", header: true, numeric: true, sortable: true, cell: (one) => String(one.id) },
      { key: "reason", label: "Reason", sortable: true, cell: reason, class: "col-reason" },
      { key: "stage", label: "Stage", sortable: true, value: (one) => [one.stage, one.table].filter(Boolean).join(" · ") },
      { key: "column", label: "Column", sortable: true, cell: (one) => (one.column ? h("code", {}, one.column) : "–") },
      { key: "partition", label: "Partition", sortable: true },
      { key: "created_at", label: "When", sortable: true, cell: (one) => h("a", { href: runPath(one.run_id) }, time(one.created_at, { focus: false }), h("span", { class: "visually-hidden" }, `, the run that set No. ${one.id} aside`)) },
    ];
  }

  function choose(one) {
    if (!one.can_be_replayed) return h("span", { class: "quiet", title: one.replayed_by ? "It was replayed." : "A row that could not be read is mended at its source." }, "–");
    const box = h("input", {
      type: "checkbox", checked: chosen.has(one.id), "aria-label": `Select No. ${one.id}`,
      onchange: () => {
        if (box.checked) chosen.add(one.id);
        else chosen.delete(one.id);
        tell();
      },
    });
    return h("label", { class: "choose" }, box);
  }
}

function reason(one) {
  const row = one.row ? JSON.stringify(one.row, null, 2) : null;
  return h(
    "div",
    { class: "cell-lines letter" },
    h("span", {}, one.reason),
    one.replayed_by ? h("span", { class: "cell-line" }, badge("succeeded", "replayed"), h("span", { class: "cell-note" }, one.replayed_by)) : null,
    one.stage === "extract" ? h("span", { class: "cell-note" }, one.position ? ["It lies at ", h("code", {}, one.position), ". Mend it at its source."] : "Mend it at its source.") : null,
    row ? h("details", {}, h("summary", {}, "Row"), h("pre", { class: "payload", tabindex: "0" }, row)) : null,
  );
}
