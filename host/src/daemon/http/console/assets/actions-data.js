// What somebody can have the daemon do with a pipeline's schedule, checkpoints and dead letters. As in actions.js, each
// says first what it will do and what not.

import { send } from "./api.js";
import { ask, check, field } from "./dialog.js";
import { count, h, plural } from "./dom.js";

const api = (name, rest) => `/api/v1/pipelines/${encodeURIComponent(name)}${rest}`;

/** Forgets how far a partition was read. */
export function reset(pipeline, partition, { done } = {}) {
  const { name } = pipeline;
  const sink = pipeline.route?.sink ?? "the sink";
  const twice = h("input", { type: "checkbox" });
  ask({
    title: `Reset the checkpoint of ${partition}`,
    confirm: "Reset the checkpoint",
    danger: true,
    says: () => [
      `The next run of partition ${partition} reads from the beginning. Nothing in ${sink} is deleted.`,
      "An attempt that is under way loses the partition and ends with an error.",
      twice.checked
        ? "With append the rows that are there already are loaded again beside them, so empty the table first."
        : "With append it is refused unless the next run can delete the partition's rows in the same transaction.",
    ],
    fields: [check("Allow duplicates", twice, "Only for append, after the table was emptied.")],
    guard: { name },
    submit: async () => {
      await send("POST", api(name, "/checkpoints/reset"), { partition, allow_duplicates: twice.checked });
      return { text: `The next run of partition ${partition} reads from the beginning.` };
    },
    done,
  });
}

/** Loads dead letters again: those with `ids`, or all that `filter` lets through. */
export function replay(pipeline, { ids = [], filter = {} }, { done } = {}) {
  const { name } = pipeline;
  const narrowed = [
    filter.stage ? `refused by ${filter.stage}` : null,
    filter.partition ? `of partition ${filter.partition}` : null,
    filter.run ? `of run ${filter.run}` : null,
  ].filter(Boolean);
  const which = ids.length ? plural(ids.length, "dead letter") : `all dead letters${narrowed.length ? ` ${narrowed.join(" ")}` : ""}`;
  ask({
    title: `Replay ${which}`,
    confirm: "Replay",
    says: [
      `Sends ${which} of ${name} again through what lies behind the stage that refused each, and loads them into ${pipeline.route?.sink ?? "the sink"}.`,
      "Each is loaded once, whoever replays it. One that is refused again stays here with its new reason.",
      "No checkpoint moves, no table is made or changed, and a newer row is not overwritten. Mend first what refused the rows.",
    ],
    submit: async () => {
      const answer = await send("POST", api(name, "/dead-letters/replay"), {
        ids, partitions: filter.partition ? [filter.partition] : [], stage: filter.stage || null, run: filter.run || null,
      });
      if (!answer?.run_id) return { text: "The replay goes on. Letters leave the list as they are loaded." };
      if (!answer.left.length && !answer.cancelled) return { text: outcome(answer) };
      return { result: report(answer) };
    },
    done,
  });
}

function outcome(answer) {
  const parts = [`${plural(answer.replayed, "dead letter")} replayed`];
  if (answer.superseded) parts.push(`${count(answer.superseded)} yielded to newer rows`);
  if (answer.left.length) parts.push(`${count(answer.left.length)} still refused`);
  return `${parts.join(", ")}.`;
}

function report(answer) {
  return h(
    "div",
    { class: "dialog-lead" },
    h("p", {}, h("strong", {}, outcome(answer)), answer.cancelled ? " It was stopped before the last one." : null),
    answer.left.length
      ? h("ul", { class: "left-list" }, answer.left.slice(0, 100).map((letter) => h("li", {}, h("strong", {}, `No. ${letter.id}`), ` ${letter.reason}`)))
      : null,
    answer.left.length > 100 ? h("p", { class: "quiet" }, `And ${count(answer.left.length - 100)} more.`) : null,
  );
}

const DAYS = [["mon", "Monday"], ["tue", "Tuesday"], ["wed", "Wednesday"], ["thu", "Thursday"], ["fri", "Friday"], ["sat", "Saturday"], ["sun", "Sunday"]];

/** Sets a schedule in place of the configuration's. `current` is the schedule that holds, as the API gives it. */
export function setSchedule(pipeline, current, { done } = {}) {
  const { name } = pipeline;
  const kind = select([
    ["daily", "every day"], ["hourly", "every hour"], ["weekly", "every week"], ["monthly", "every month"], ["cron", "by a cron pattern"],
    ["off", "never: no schedule"], ["external", "started from elsewhere"],
  ], current.schedule?.cron ? "cron" : "daily");
  const at = h("input", { type: "time", value: "00:00" });
  const minute = h("input", { type: "number", min: 0, max: 59, value: 0 });
  const weekday = select(DAYS, "mon");
  const day = select([...Array.from({ length: 31 }, (_, index) => [String(index + 1), String(index + 1)]), ["last", "the last"]], "1");
  const cron = h("input", { type: "text", class: "mono", value: current.schedule?.cron ?? "", placeholder: "30 2 * * mon-fri", autocomplete: "off", spellcheck: "false" });
  const zones = h("datalist", { id: "zones" }, (Intl.supportedValuesOf?.("timeZone") ?? []).map((zone) => h("option", { value: zone })));
  const zone = h("input", { type: "text", value: current.schedule?.timezone ?? "", placeholder: "UTC", list: "zones", autocomplete: "off", spellcheck: "false" });
  const jitter = h("input", { type: "text", value: current.schedule?.jitter ?? "", placeholder: "0s", autocomplete: "off" });
  const catchUp = h("input", { type: "text", value: missed(current.schedule?.catch_up), placeholder: "last", autocomplete: "off" });
  const overlap = select([["", "as in the configuration"], ["skip", "leave the new one out"], ["queue", "let the new one wait"], ["cancel", "cancel the old one"]], current.schedule?.overlap ?? "");

  const parts = {
    day: field("Day of the month", day), weekday: field("Day", weekday), at: field("At", at), minute: field("Minute", minute),
    cron: field("Pattern", cron, "Minute, hour, day of the month, month, day of the week; a sixth field in front is the second."),
  };
  const needs = { daily: ["at"], hourly: ["minute"], weekly: ["weekday", "at"], monthly: ["day", "at"], cron: ["cron"], off: [], external: [] };
  const more = h(
    "div",
    { class: "field-row" },
    h("div", { class: "field-wide" }, field("Zone", zone, "Such as Europe/Berlin.")),
    field("Jitter", jitter, "How much later a run may start, such as 5m."),
    field("Missed runs", catchUp, "none, last, all or all:N."),
    h("div", { class: "field-wide" }, field("If the last run goes on", overlap)),
  );

  const form = () => ({
    daily: `daily ${at.value}`, hourly: `hourly ${minute.value}`, weekly: `weekly ${weekday.value} ${at.value}`,
    monthly: `monthly ${day.value} ${at.value}`, cron: `cron ${cron.value.trim()}`, off: "off", external: "external",
  })[kind.value];

  ask({
    title: `Schedule of ${name}`,
    confirm: "Set the schedule",
    says: () => {
      for (const [key, node] of Object.entries(parts)) node.hidden = !needs[kind.value].includes(key);
      const timed = !["off", "external"].includes(kind.value);
      more.hidden = !timed;
      return [
        "It holds at once, in place of the configuration's, until it is removed. The file is not changed. A run that goes on is not touched.",
        kind.value === "off" ? "Nothing starts the pipeline by itself then." : null,
        kind.value === "external" ? "Nothing is started here then: something else has to, such as a timer of systemd." : null,
      ];
    },
    fields: [field("Runs", kind), h("div", { class: "field-row" }, Object.values(parts)), more, zones],
    submit: async () => {
      const body = { form: form() };
      if (!more.hidden) {
        for (const [key, input] of [["timezone", zone], ["jitter", jitter], ["catch_up", catchUp], ["overlap", overlap]]) {
          if (input.value.trim()) body[key] = input.value.trim();
        }
      }
      const now = await send("PUT", api(name, "/schedule"), body);
      return { text: `${name}: ${now?.description ?? "the schedule was set"}.` };
    },
    done,
  });
}

/** Goes back to the configuration's schedule. */
export function removeSchedule(pipeline, { done } = {}) {
  const { name } = pipeline;
  ask({
    title: `Schedule of ${name}`,
    confirm: "Back to the configuration's",
    says: [
      "Removes the schedule that was set by hand. The one of the configuration holds again at once, or none if it has none.",
      "A pause stays. A run that goes on is not touched.",
    ],
    submit: async () => {
      const now = await send("DELETE", api(name, "/schedule"));
      return { text: `${name}: ${now?.description ?? "no schedule"}.` };
    },
    done,
  });
}

function select(options, chosen) {
  return h("select", { value: chosen }, options.map(([value, label]) => h("option", { value }, label)));
}

function missed(catchUp) {
  if (!catchUp) return "";
  return typeof catchUp === "object" ? `all:${catchUp.all}` : catchUp;
}
