// When a pipeline runs by itself: in words, its next instants in two zones, and how to change that.

import * as actions from "./actions.js";
import { removeSchedule, setSchedule } from "./actions-data.js";
import { get } from "./api.js";
import { badge, empty, h, problem, replace, time } from "./dom.js";
import { table } from "./table.js";

const ORIGINS = {
  none: "There is none.",
  config: "From the configuration.",
  set: "Set by hand, in place of the configuration's.",
  off: "Switched off by hand, whatever the configuration says.",
  external: "Started from elsewhere: the daemon starts nothing by itself.",
};

const MINE = Intl.DateTimeFormat().resolvedOptions().timeZone ?? "UTC";

export async function tab({ about, pane, path, freshen, onChange }) {
  let shown = "";
  // Asked again rather than taken from the head: an error belongs here.
  const look = async () => {
    try {
      about.schedule = await get(`${path}/schedule`);
    } catch (error) {
      shown = "";
      return replace(pane, problem(error));
    }
    const said = JSON.stringify(about.schedule);
    if (said === shown) return undefined;
    shown = said;
    return show(about, pane, freshen);
  };
  onChange(look);
  await look();
}

function show(about, pane, freshen) {
  const { pipeline, schedule } = about;
  const done = freshen;
  const button = (label, onclick, props = {}) => h("button", { type: "button", "aria-haspopup": "dialog", onclick, ...props }, label);
  const byHand = ["set", "off", "external"].includes(schedule.origin);
  const buttons = h(
    "div",
    { class: "actions" },
    button(schedule.schedule ? "Change …" : "Set a schedule …", () => setSchedule(pipeline, schedule, { done })),
    schedule.paused ? button("Resume …", () => actions.resume(pipeline, { done })) : schedule.schedule ? button("Pause …", () => actions.pause(pipeline, { done })) : null,
    byHand ? button("Back to the configuration's …", () => removeSchedule(pipeline, { done })) : null,
  );
  const own = schedule.schedule ?? {};
  const fact = (label, value) => (value ? [h("dt", {}, label), h("dd", {}, value)] : null);
  const zone = own.timezone ?? "UTC";

  replace(
    pane,
    h(
      "section",
      { class: "card", "aria-labelledby": "schedule-title" },
      h("div", { class: "card-head" }, h("h2", { id: "schedule-title" }, "Schedule"), buttons),
      h(
        "p",
        { class: "schedule-words" },
        schedule.description ?? (schedule.origin === "external" ? "Started from elsewhere" : "No schedule"),
        schedule.paused ? [" ", badge("paused")] : null,
      ),
      h(
        "dl",
        { class: "facts" },
        fact("Where from", ORIGINS[schedule.origin] ?? schedule.origin),
        fact("Changed by hand", schedule.changed_at ? time(schedule.changed_at) : "never"),
        fact("Pattern", own.cron ? h("code", {}, own.cron) : null),
        fact("Zone", own.cron ? zone : null),
        fact("Jitter", own.jitter && own.jitter !== "0s" ? `up to ${own.jitter} later` : null),
        fact("Missed runs", own.catch_up ? missed(own.catch_up) : null),
        fact("If the last run goes on", { skip: "the new one is left out", queue: "the new one waits", cancel: "the old one is cancelled" }[own.overlap]),
        fact("Told as late", own.late_after ? `${own.late_after} after it was due` : null),
        fact("After", pipeline.depends_on.length ? `Each run waits for ${pipeline.depends_on.join(", ")}.` : null),
      ),
    ),
    h(
      "section",
      { class: "card", "aria-labelledby": "next-title" },
      h("div", { class: "card-head" }, h("h2", { id: "next-title" }, "Next instants")),
      schedule.next.length ? instants(schedule.next, zone) : nothing(about, schedule),
    ),
  );
}

function instants(next, zone) {
  const columns = [
    { key: "in", label: "When", header: true, cell: (row) => time(row.at) },
    { key: "there", label: `In ${zone}`, value: (row) => inZone(row.at, zone), class: "numeric-left" },
  ];
  if (zone !== MINE) columns.push({ key: "here", label: `Here, in ${MINE}`, value: (row) => inZone(row.at, MINE), class: "numeric-left" });
  if (zone !== "UTC" && MINE !== "UTC") columns.push({ key: "utc", label: "In UTC", value: (row) => inZone(row.at, "UTC"), class: "numeric-left" });
  return table({ caption: "Next instants in each zone", key: (row) => row.at, columns, rows: next.map((at) => ({ at })) }).node;
}

function nothing(about, schedule) {
  if (schedule.paused) return empty("Paused", "It is due at no instant until it is resumed. It can be run by hand.");
  if (schedule.origin === "external") return empty("Started from elsewhere", "A timer of systemd or another program starts it. It can be run by hand.");
  if (about.pipeline.depends_on.length) return empty("Runs after others", `It runs whenever one of these is due: ${about.pipeline.depends_on.join(", ")}.`);
  return empty("Nothing is due", "Set a schedule above, or start a run by hand.");
}

function missed(catchUp) {
  if (catchUp === "none") return "are left out";
  if (catchUp === "last") return "one run, for the last of them";
  const most = typeof catchUp === "object" ? catchUp.all : 100;
  return `a run for each, at most ${most}`;
}

function inZone(instant, zone) {
  try {
    return new Intl.DateTimeFormat("en-GB", {
      timeZone: zone, weekday: "short", day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", timeZoneName: "short",
    }).format(new Date(instant));
  } catch {
    // The browser's list of zones may be older than the daemon's.
    return `${instant.slice(0, 16).replace("T", " ")} UTC`;
  }
}
