// Files of the plugins folder that do not serve: why, and what to do about them.

import { get } from "./api.js";
import { badge, count, empty, h, icon, plural, replace } from "./dom.js";
import { refetch } from "./refetch.js";
import { table } from "./table.js";

/** Says on another page that there are such files. `null` if there are none. */
export function refusedNotice(refused) {
  if (!refused.length) return null;
  const shown = refused.slice(0, 2);
  return h(
    "section",
    { class: "notice tone-bad", "aria-label": "Refused plugin files" },
    h("p", { class: "notice-title" }, icon("warning"), `${plural(refused.length, "plugin file is", "plugin files are")} refused`),
    h("ul", { class: "problem-list" }, shown.map((one) =>
      h("li", {}, h("code", {}, fileName(one.path)), `: ${one.reason}`, one.fix ? h("span", { class: "problem-fix" }, h("strong", {}, "Fix: "), one.fix) : null))),
    h("p", {}, h("a", { href: "/plugins" }, refused.length > shown.length ? `All ${count(refused.length)} refused files` : "Refused files")),
  );
}

function file(one) {
  const name = fileName(one.path);
  return h("div", { class: "cell-lines" }, h("code", { class: "cell-name" }, name), h("code", { class: "quiet" }, one.path.slice(0, -name.length)));
}

function fileName(path) {
  return path.split("/").at(-1);
}

export async function page(context) {
  const { main } = context;
  let { refused } = await get("/api/v1/plugins/refused");
  const list = table({
    caption: "Refused plugin files",
    key: (one) => one.path,
    rows: refused,
    columns: [
      { key: "path", label: "File", header: true, sortable: true, value: (one) => one.path, cell: file, class: "col-name" },
      { key: "serving", label: "Now", sortable: true, value: serves, cell: (one) => (one.serving ? badge("partial", "earlier version serves") : badge("refused", "not served")) },
      { key: "reason", label: "Why", sortable: true, class: "col-text" },
      { key: "fix", label: "What to do", class: "col-text" },
    ],
    filter: "Filter files",
    empty: empty(
      "No file is refused",
      [
        "All plugin files of the folder serve. To add a pipeline, drop a plugin file (", h("code", {}, "lib….so"),
        ") into the daemon's plugins folder, or build and check it with ", h("code", {}, "etl-host install"),
        ". ", h("code", {}, "etl-host generate"), " writes a new one.",
      ],
      h("a", { class: "button", href: "/" }, "To the pipelines"),
    ),
  });
  replace(
    main,
    h("div", { class: "page-head" },
      h("div", {}, h("h1", {}, "Plugins"), h("p", {}, "Files of the plugins folder that do not serve. The daemon looks again as soon as a file changes."))),
    list.node,
  );

  const freshen = refetch(context, async () => {
    ({ refused } = await get("/api/v1/plugins/refused"));
    list.update(refused);
  });
  context.onEvent((event) => {
    if (event.event === "plugins_changed" || event.event === "lagged") freshen();
  });
}

function serves(one) {
  return one.serving ? "earlier version serves" : "not served";
}
