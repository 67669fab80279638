// What a page shows stands in its address, so that it can be pasted into a ticket.

/** An address with the query's values that are set. */
export function address(path, query) {
  const words = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "" && value !== 0) words.set(name, value);
  }
  const text = words.toString();
  return text ? `${path}?${text}` : path;
}

/** Puts it into the address bar without going anywhere. */
export function remember(path, query) {
  history.replaceState(null, "", address(path, query));
}

/** Of a pipeline. */
export function pipelinePath(name) {
  return `/pipelines/${encodeURIComponent(name)}`;
}

/** Of a run. */
export function runPath(id) {
  return `/runs/${encodeURIComponent(id)}`;
}

/** An address of this console that a link may ask for; anything else becomes `/`. */
export function safeNext(wanted) {
  if (!wanted || !wanted.startsWith("/")) return "/";
  try {
    const url = new URL(wanted, location.origin);
    // `//elsewhere` and `/\elsewhere` are other hosts, and `/api` is no page.
    if (url.origin !== location.origin || url.pathname === "/login" || url.pathname.startsWith("/api/")) return "/";
    return url.pathname + url.search + url.hash;
  } catch {
    return "/";
  }
}
