// Which page stands at which address, and how one page follows another without a reload.

import { get, ApiError, SILENT } from "./api.js";
import { h, problem, replace, skeleton } from "./dom.js";

// A page is loaded once somebody goes there.
const ROUTES = [
  [/^\/$/, "overview", () => import("./pages-overview.js")],
  [/^\/pipelines\/(?<name>[^/]+)$/, "pipeline", () => import("./pages-pipeline.js")],
  [/^\/runs$/, "runs", () => import("./pages-runs.js")],
  [/^\/runs\/(?<id>[^/]+)$/, "run", () => import("./pages-run.js")],
  [/^\/servers$/, "servers", () => import("./pages-servers.js")],
  [/^\/plugins$/, "plugins", () => import("./pages-plugins.js")],
  [/^\/audit$/, "audit", () => import("./pages-audit.js")],
  [/^\/login$/, "login", () => import("./pages-login.js")],
];

let current = null;

/** Goes to an address of the console. */
export function navigate(address, { replace: instead = false } = {}) {
  const url = new URL(address, location.href);
  if (instead) history.replaceState(null, "", url);
  else if (url.href !== location.href) history.pushState(null, "", url);
  return show({ moved: true });
}

/** Renders the page again, with what is known now. */
export function refresh() {
  // A module that did not come is not asked for again; only a reload helps.
  if (current?.failed === "module") location.reload();
  return show({ moved: false });
}

/** Tells the page that something happened. */
export function dispatch(event) {
  for (const handler of current?.handlers ?? []) handler(event);
}

/** Says something to screen readers. */
export function announce(text) {
  const node = document.getElementById("announcer");
  // The same text twice is said twice only if it was away in between.
  replace(node);
  setTimeout(() => replace(node, text), 50);
}

/** Whether the page could not be loaded. */
export function failed() {
  return Boolean(current?.failed);
}

/** Fetches the script of the page at this address, before it may be shown. */
export function prepare() {
  ROUTES.find(([pattern]) => pattern.test(location.pathname))?.[2]().catch(() => null);
}

export function startRouter() {
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href]");
    if (!link || event.defaultPrevented || event.button !== 0) return;
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey || link.target || link.hasAttribute("download")) return;
    const url = new URL(link.href);
    const elsewhere = url.origin !== location.origin || !ROUTES.some(([pattern]) => pattern.test(url.pathname));
    const here = url.hash && url.pathname === location.pathname && url.search === location.search;
    if (elsewhere || here) return;
    event.preventDefault();
    navigate(url);
  });
  addEventListener("popstate", () => show({ moved: true }));
  return show({ moved: false });
}

function leave() {
  for (const goodbye of current?.goodbyes ?? []) goodbye();
}

async function show({ moved }) {
  const path = location.pathname.replace(/(.)\/+$/, "$1");
  const frame = document.getElementById("main");
  const samePage = current?.path === path;
  const focused = focusedLink();
  leave();
  const main = h("div", { class: "page" });
  const page = { path, handlers: [], goodbyes: [], failed: null };
  current = page;

  const route = ROUTES.find(([pattern]) => pattern.test(path));
  document.body.dataset.page = route?.[1] ?? "unknown";
  markNavigation(path);
  if (!samePage) {
    replace(main, skeleton());
    replace(frame, main);
    if (moved) scrollTo(0, 0);
  }

  try {
    if (!route) throw new ApiError(404, { message: `There is no page ${path}.`, next_step: "Go to the overview." });
    const [pattern, , load] = route;
    const module = await load().catch(notLoaded);
    const context = {
      params: decoded(path.match(pattern).groups ?? {}),
      query: new URLSearchParams(location.search),
      main,
      onEvent: (handler) => page.handlers.push(handler),
      onLeave: (goodbye) => (current === page ? page.goodbyes.push(goodbye) : goodbye()),
      refresh: () => (current === page ? refresh() : Promise.resolve()),
    };
    if (current === page) await module.page(context);
  } catch (error) {
    if (current !== page) return;
    if (!(error instanceof ApiError)) console.error(error);
    page.failed = error.module ? "module" : "data";
    replace(main, failure(error));
  }
  if (current !== page) return;
  if (!main.isConnected) replace(frame, main);
  arrive(main, { moved: moved && !samePage, focused });
}

function notLoaded() {
  throw Object.assign(new ApiError(0, SILENT), { module: true });
}

function decoded(groups) {
  return Object.fromEntries(
    Object.entries(groups).map(([name, text]) => {
      try {
        return [name, decodeURIComponent(text)];
      } catch {
        return [name, text];
      }
    }),
  );
}

function failure(error) {
  const lost = error.status === 404;
  return [
    h("h1", {}, lost ? "Not found" : "This page could not be loaded"),
    problem(error),
    h(
      "div",
      { class: "actions" },
      h("a", { class: "button", href: "/" }, "To the overview"),
      lost ? null : h("button", { type: "button", onclick: () => refresh() }, "Try again"),
    ),
  ];
}

function arrive(main, { moved, focused }) {
  const heading = main.querySelector("h1");
  const title = heading?.dataset.title ?? heading?.textContent;
  document.title = title && title !== "etl-host" ? `${title} · etl-host` : "etl-host";
  if (moved) {
    announce(document.title);
    heading?.setAttribute("tabindex", "-1");
    heading?.focus({ preventScroll: true });
  } else if (focused && !document.body.contains(document.activeElement) || document.activeElement === document.body) {
    if (focused) [...main.querySelectorAll("a[href]")].find((link) => link.getAttribute("href") === focused)?.focus({ preventScroll: true });
  }
}

/** The link in the page that has the focus; rendered anew, it takes it back. */
function focusedLink() {
  const link = document.activeElement?.closest?.("main a[href]");
  return link?.getAttribute("href") ?? null;
}

function markNavigation(path) {
  for (const link of document.querySelectorAll(".shell-nav a")) {
    const href = link.getAttribute("href");
    const here = href === "/" ? path === "/" : path === href || path.startsWith(`${href}/`);
    if (here) link.setAttribute("aria-current", path === href ? "page" : "true");
    else link.removeAttribute("aria-current");
  }
}

/** What a page asks for first, in one go. */
export function load(...paths) {
  return Promise.all(paths.map((path) => get(path)));
}
