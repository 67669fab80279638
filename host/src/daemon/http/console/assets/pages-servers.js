// Servers and processes: which server is left alone, how many connections there are, what workers take of the machine.

import { pipelinePath } from "./address.js";
import { badge, bytes, count, duration, empty, h, icon, replace, time } from "./dom.js";
import { refetch } from "./refetch.js";
import { load } from "./router.js";
import { table } from "./table.js";

const PATHS = ["/api/v1/servers", "/api/v1/processes"];
const RANK = { open: 0, "half-open": 1, closed: 2 };

export async function page(context) {
  const { main } = context;
  const share = cpuShare();
  let [servers, processes] = await load(...PATHS);

  const alone = h("div", { class: "page" });
  const breakers = table({
    caption: "Circuit breakers",
    key: (one) => one.guards,
    columns: [
      { key: "condition", label: "State", sortable: true, value: (one) => RANK[one.condition], cell: condition },
      { key: "guards", label: "Server or login", header: true, sortable: true, class: "col-name" },
      { key: "failures", label: "Failures in a row", numeric: true, sortable: true, cell: (one) => count(one.failures) },
      { key: "since", label: "Open since", sortable: true, cell: (one) => time(one.since) },
      { key: "next_trial_seconds", label: "Next trial", numeric: true, sortable: true, cell: (one) => (one.next_trial_seconds === null ? "–" : `in ${duration(one.next_trial_seconds)}`) },
      { key: "cause", label: "Last failure", cell: (one) => one.cause ?? "–", class: "col-text" },
    ],
    empty: empty("No servers yet", "A server shows here once a run has connected to it."),
  });
  const pools = table({
    caption: "Connection pools",
    key: (one) => one.server,
    columns: [
      { key: "server", label: "Server", header: true, sortable: true, class: "col-name" },
      { key: "budget", label: "Connections", cell: budget, class: "col-meter" },
      { key: "in_use", label: "In use", numeric: true, sortable: true },
      { key: "idle", label: "Idle", numeric: true, sortable: true },
      { key: "max", label: "At most", numeric: true, sortable: true },
      { key: "waiting", label: "Waiting", numeric: true, sortable: true, cell: (one) => (one.waiting ? h("strong", { class: "toned tone-warn" }, count(one.waiting)) : "0") },
    ],
    empty: empty("No pools yet", "A pool is opened by the first run that reads from a server or writes to it."),
  });
  const workers = table({
    caption: "Processes",
    key: (one) => one.process,
    columns: [
      { key: "what", label: "Process", header: true, sortable: true, value: (one) => one.pipeline ?? "", cell: what, class: "col-name" },
      { key: "partition", label: "Partition", sortable: true, value: (one) => one.partition ?? "", cell: (one) => one.partition || "–" },
      { key: "process", label: "Number", numeric: true, sortable: true, cell: (one) => String(one.process) },
      { key: "memory", label: "Memory", numeric: true, sortable: true, value: (one) => one.usage?.resident_bytes, cell: (one) => bytes(one.usage?.resident_bytes) },
      { key: "peak", label: "Most memory", numeric: true, sortable: true, value: (one) => one.usage?.peak_bytes, cell: (one) => bytes(one.usage?.peak_bytes) },
      { key: "cpu", label: "CPU now", numeric: true, sortable: true, value: (one) => one.cpu, cell: (one) => (one.cpu === null ? "–" : `${one.cpu.toFixed(one.cpu < 10 ? 1 : 0)} %`) },
      { key: "time", label: "CPU time", numeric: true, sortable: true, value: (one) => one.usage?.cpu_ms, cell: (one) => duration(one.usage ? one.usage.cpu_ms / 1000 : null) },
    ],
    empty: empty("No processes", "The daemon tells nothing of its processes here."),
  });

  replace(
    main,
    h("div", { class: "page-head" }, h("div", {}, h("h1", {}, "Servers"), h("p", {}, "Looked at every two seconds while this page is in front."))),
    alone,
    section("Circuit breakers", "A server that fails again and again is left alone for a while.", breakers.node),
    section("Connections", "The budget of each server, shared by all pipelines of this daemon.", pools.node),
    section("Daemon and workers", "100 % is one core. A worker is the process in which a plugin runs.", workers.node),
  );
  show();

  function show() {
    const sorted = [...servers.breakers].sort((a, b) => RANK[a.condition] - RANK[b.condition] || a.guards.localeCompare(b.guards));
    const open = sorted.filter((one) => one.condition !== "closed");
    replaceIfOther(alone, open);
    breakers.update(sorted);
    pools.update(servers.pools);
    workers.update(processes.processes.map((one) => ({ ...one, cpu: share(one) })));
  }

  const look = refetch(
    context,
    async () => {
      [servers, processes] = await load(...PATHS);
      show();
    },
    { every: 2000 },
  );
  // How much CPU a process takes is known from the second look on.
  look();
}

function section(title, text, content) {
  return h("section", { class: "page section" }, h("div", {}, h("h2", {}, title), h("p", { class: "quiet" }, text)), content);
}

function condition(one) {
  return badge(one.condition, { open: "left alone", "half-open": "on trial", closed: "in order" }[one.condition]);
}

/** What is to be done about servers that are left alone. Said once, not every two seconds. */
function replaceIfOther(node, open) {
  const said = open.map((one) => `${one.guards} ${one.condition} ${one.cause}`).join("\n");
  if (node.dataset.said === said) return;
  node.dataset.said = said;
  node.hidden = open.length === 0;
  replace(
    node,
    open.map((one) =>
      h("div", { class: "notice tone-bad", role: "status" },
        h("p", { class: "notice-title" }, icon("warning"), h("span", {}, `${one.guards} is ${one.condition === "open" ? "left alone" : "on trial"}`)),
        h("p", {}, one.since ? ["The breaker opened ", time(one.since), ": "] : null, one.cause ?? "it failed again and again"),
        h("p", {}, h("strong", {}, "Next step: "), "mend the cause. The daemon tries by itself at the next trial, and goes on once that succeeds.")),
    ),
  );
}

function budget(one) {
  const part = (n) => `${one.max ? Math.min(100, (100 * n) / one.max) : 0}%`;
  const words = `${count(one.in_use)} in use, ${count(one.idle)} idle, of at most ${count(one.max)}`;
  const full = one.in_use >= one.max;
  return h(
    "div",
    { class: "meter", role: "img", "aria-label": words, title: words },
    h("span", { class: full ? "meter-full" : null, style: { width: part(one.in_use) } }),
    h("span", { class: "meter-second", style: { width: part(one.idle) } }),
  );
}

function what(one) {
  return one.pipeline ? h("a", { href: pipelinePath(one.pipeline) }, one.pipeline) : h("strong", {}, "daemon");
}

/** CPU of a process in percent of a core, between two looks at it. */
function cpuShare() {
  const seen = new Map();
  return ({ process, usage }) => {
    if (!usage) return null;
    const now = performance.now();
    const before = seen.get(process);
    seen.set(process, { at: now, cpu: usage.cpu_ms });
    if (!before || now - before.at < 200) return null;
    return Math.max(0, (100 * (usage.cpu_ms - before.cpu)) / (now - before.at));
  };
}
