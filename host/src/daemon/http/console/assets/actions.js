// What somebody can have the daemon do with runs and pipelines. Each says first what it will do and what not.
// `done` is called after it was done, so that the page can look again.

import { send } from "./api.js";
import { ask, check, choice, field, toast } from "./dialog.js";
import { partitionPicker } from "./picker.js";
import { h } from "./dom.js";

export { toast };

const api = (name, rest) => `/api/v1/pipelines/${encodeURIComponent(name)}${rest}`;
const page = (runId) => ({ href: `/runs/${encodeURIComponent(runId)}`, link: "Show the run" });
const value = (input) => input.value.trim();

/** The sink in words, such as `postgres table orders`. */
function sinkOf(pipeline) {
  return pipeline.route?.sink ?? "the sink";
}

/** Starts a run, with options. */
export function run(pipeline, { done } = {}) {
  const { name } = pipeline;
  const begin = choice("Begin", [
    ["checkpoint", "After the checkpoint", "The usual: what is new since the last run."],
    ["beginning", "At the beginning", "Reads everything again; the checkpoint follows."],
    ["since", "After a position", "The checkpoint stays where it is."],
  ]);
  const since = h("input", { type: "text", autocomplete: "off", spellcheck: "false" });
  const sinceField = field("After this position", since, "As the source writes it; the partitions' cursors show the form.");
  const until = h("input", { type: "text", autocomplete: "off", spellcheck: "false" });
  const limit = h("input", { type: "number", min: 1, step: 1, inputmode: "numeric" });
  const dry = h("input", { type: "checkbox" });
  const twice = h("input", { type: "checkbox" });
  const partitions = partitionPicker(pipeline);
  const goesBack = () => begin.value() !== "checkpoint";

  ask({
    title: `Run ${name}`,
    confirm: "Run",
    says: () => {
      sinceField.hidden = begin.value() !== "since";
      return [
        pipeline.state === "queued" || pipeline.state === "running" ? `${name} is ${pipeline.state} now: the daemon says whether another run may begin.` : null,
        {
          checkpoint: `Starts a run now, beside the schedule. It reads what came behind the checkpoint of ${partitions.inWords()}`,
          beginning: `Starts a run now that reads everything of ${partitions.inWords()} from the beginning, whatever the checkpoint says`,
          since: `Starts a run now that reads ${partitions.inWords()} after the position below`,
        }[begin.value()] + (dry.checked ? "." : `, and loads it into ${sinkOf(pipeline)}.`),
        dry.checked
          ? "It is a dry run: nothing is written, neither rows nor a checkpoint nor a table."
          : goesBack() && !twice.checked
            ? "Rows that are there already are replaced or deleted first. Where that cannot be done, the run is refused."
            : null,
        twice.checked && !dry.checked ? "Rows that are there already may then be there twice." : null,
      ];
    },
    fields: [
      h(
        "details",
        { class: "options" },
        h("summary", {}, "Options"),
        h(
          "div",
          { class: "options-body" },
          begin.node,
          sinceField,
          field("Up to this position", until, "Empty: as far as the source goes."),
          field("Most rows per partition", limit, "Empty: all."),
          partitions.node,
          check("Dry run", dry, "Reads and transforms, but writes nothing."),
          check("Allow duplicates", twice, "Only for append: loads rows again that may be there already."),
        ),
      ),
    ],
    guard: () => {
      if (dry.checked) return null;
      if (twice.checked) return { tick: "I know that rows may then be in the sink twice." };
      if (begin.value() === "beginning") return { tick: "I know that everything is read and loaded again." };
      return null;
    },
    submit: async () => {
      const started = await send("POST", api(name, "/runs"), {
        partitions: partitions.chosen(),
        full_refresh: begin.value() === "beginning",
        since: begin.value() === "since" ? value(since) || null : null,
        until: value(until) || null,
        limit: limit.value ? Number(limit.value) : null,
        dry_run: dry.checked,
        allow_duplicates: twice.checked,
      });
      return { text: `A ${dry.checked ? "dry run" : "run"} of ${name} was started.`, ...page(started.run_id) };
    },
    done,
  });
}

/** Stops a run. `run` has `run_id` and `pipeline`. */
export function cancel(run, { done } = {}) {
  const how = choice("How", [
    ["drain", "Commit what is in flight, then stop", "Takes a moment. The next run goes on from there."],
    ["now", "Stop now", "What is not committed is rolled back, and read again by the next run."],
  ]);
  ask({
    title: `Cancel the run of ${run.pipeline}`,
    confirm: "Cancel the run",
    back: "Let it run",
    danger: true,
    says: () => [
      run.started_at === null
        ? "The run has not begun yet. It will not begin."
        : how.value() === "now"
          ? "Stops the run at once. What is committed stays in the sink; what is not committed yet is rolled back."
          : "Stops the run once what it is writing is committed. All that stays in the sink.",
      "No row is lost or doubled by it. The schedule goes on: the next due instant starts a run again.",
    ],
    fields: run.started_at === null ? [] : [how.node],
    submit: async () => {
      await send("POST", `/api/v1/runs/${encodeURIComponent(run.run_id)}/cancel`, { now: how.value() === "now" });
      return { text: `The run of ${run.pipeline} was asked to stop.`, ...page(run.run_id) };
    },
    done,
  });
}

/** Lets the schedule start nothing for now. */
export function pause(pipeline, { done } = {}) {
  const { name } = pipeline;
  ask({
    title: `Pause ${name}`,
    confirm: "Pause",
    says: [
      "From now on its schedule starts no run. What is due meanwhile is not made up for.",
      "A run that goes on is not touched, and runs can still be started by hand. Nothing in the sink changes.",
    ],
    submit: async () => {
      await send("POST", api(name, "/schedule/pause"));
      return { text: `${name} is paused.` };
    },
    done,
  });
}

/** Lets the schedule start runs again. */
export function resume(pipeline, { done } = {}) {
  const { name } = pipeline;
  ask({
    title: `Resume ${name}`,
    confirm: "Resume",
    says: [
      "Its schedule starts runs again, from the next due instant on.",
      "What was due while it was paused is not made up for. The next run reads all that is new since the last one, so no row is left out.",
    ],
    submit: async () => {
      await send("POST", api(name, "/schedule/resume"));
      return { text: `${name} follows its schedule again.` };
    },
    done,
  });
}

/** Enables a pipeline that was stopped or parked, and runs it. */
export function start(pipeline, { done } = {}) {
  const { name } = pipeline;
  ask({
    title: `Start ${name}`,
    confirm: "Start",
    says: [
      "Enables it, so that its schedule and what it depends on start runs again, and starts a run now.",
      pipeline.state === "parked" ? "It was parked because its plugin crashed in run after run. Those crashes are forgotten; if it goes on crashing it is parked again." : null,
    ],
    submit: async () => {
      const started = await send("POST", api(name, "/start"));
      return { text: `${name} is enabled.`, ...(started?.run_id ? page(started.run_id) : {}) };
    },
    done,
  });
}

/** Disables a pipeline, and stops its run. */
export function stop(pipeline, { done } = {}) {
  const { name } = pipeline;
  const how = choice("The run that goes on", [
    ["drain", "Commit what is in flight, then stop"],
    ["now", "Stop now, and roll back what is not committed"],
  ]);
  const runs = Boolean(pipeline.current_run);
  ask({
    title: `Stop ${name}`,
    confirm: "Stop the pipeline",
    danger: true,
    says: [
      "Disables it: nothing starts it by itself until somebody starts it again, not even after a restart of the daemon.",
      runs ? "Its run ends." : null,
      "What is committed stays in the sink, and so does the checkpoint. Nothing is deleted.",
    ],
    fields: runs ? [how.node] : [],
    guard: { tick: `I know that ${name} does not run until it is started again.` },
    submit: async () => {
      await send("POST", api(name, "/stop"), { now: runs && how.value() === "now" });
      return { text: `${name} is stopped.` };
    },
    done,
  });
}

/** Loads a past range again. */
export function backfill(pipeline, { done } = {}) {
  const { name } = pipeline;
  const from = h("input", { type: "text", required: true, autocomplete: "off", spellcheck: "false", placeholder: "2026-01-01" });
  const to = h("input", { type: "text", required: true, autocomplete: "off", spellcheck: "false", placeholder: "2026-02-01" });
  const size = h("input", { type: "text", autocomplete: "off", spellcheck: "false", placeholder: "1d" });
  const restart = h("input", { type: "checkbox" });
  const partitions = partitionPicker(pipeline);
  ask({
    title: `Backfill ${name}`,
    confirm: "Start the backfill",
    danger: true,
    says: () => [
      `Reads the rows after ${value(from) || "the beginning of the range"} up to ${value(to) || "its end"} again, of ${partitions.inWords()}, ${value(size) ? `in windows of ${value(size)}` : "as one window"}, and loads them into ${sinkOf(pipeline)}.`,
      "With append the rows of each window are deleted there first, in the same transaction; with upsert they are replaced by key.",
      "The checkpoint stays where it is. Nothing behind it is loaded.",
    ],
    fields: [
      h(
        "div",
        { class: "field-row" },
        field("From", from, "Rows after this position."),
        field("To", to, "Up to and with this one."),
        field("Window", size, "A length such as 1d or 6h, or a number, as the cursor is."),
      ),
      partitions.node,
      check("Begin again", restart, "Also windows that an earlier backfill of this range has done."),
    ],
    guard: { tick: `I know that rows of this range in ${sinkOf(pipeline)} are replaced.` },
    submit: async () => {
      const started = await send("POST", api(name, "/backfills"), {
        from: value(from), to: value(to), window: value(size) || null, partitions: partitions.chosen(), restart: restart.checked,
      });
      return { text: `A backfill of ${name} was started.`, ...page(started.run_id) };
    },
    done,
  });
}
