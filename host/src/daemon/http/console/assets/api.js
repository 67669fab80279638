// Talks to the daemon's HTTP API. Whoever is not signed in is sent to the login, and nothing else is shown.

/** What the API refused, or that it did not answer (`status` 0). */
export class ApiError extends Error {
  constructor(status, { message, next_step: nextStep, problems } = {}) {
    super(message ?? `the daemon answered ${status}`);
    this.name = "ApiError";
    this.status = status;
    this.nextStep = nextStep ?? null;
    this.problems = problems ?? [];
  }
}

/** What is said of a daemon that is not there. */
export const SILENT = {
  message: "The daemon does not answer.",
  next_step: "See on its machine whether `etl-host serve` runs. This page goes on by itself once it answers.",
};

let known = null;

/** Who is signed in, as of the last `loadSession`; `null` before the first. */
export function session() {
  return known;
}

/** Asks who is signed in. */
export async function loadSession() {
  known = await request("GET", "/api/v1/session");
  return known;
}

/** Signs in; a wrong token is an `ApiError` with status 401. */
export async function signIn(token) {
  known = await request("POST", "/api/v1/session", { token });
  return known;
}

/** Signs out, and shows the login. */
export async function signOut() {
  await send("DELETE", "/api/v1/session");
  location.assign("/login");
}

/** Reads. */
export async function get(path) {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await request("GET", path);
    } catch (error) {
      // Too many requests of this client: its own pages, so it waits for its turn.
      if (error.status !== 429 || attempt === 3) return refused(error);
      await new Promise((resume) => setTimeout(resume, error.retryAfter * 1000));
    }
  }
}

/** Changes something. `null` if the answer has no content. */
export async function send(method, path, body) {
  try {
    if (!known) await loadSession();
    return await request(method, path, body);
  } catch (error) {
    return refused(error);
  }
}

function refused(error) {
  if (error.status !== 401) throw error;
  toLogin();
  // The page is about to go; nobody shall see half of it.
  return new Promise(() => {});
}

/** Goes to the login, and from there back to here. */
export function toLogin() {
  if (location.pathname === "/login") return;
  const next = location.pathname + location.search + location.hash;
  location.replace(`/login?next=${encodeURIComponent(next)}`);
}

async function request(method, path, body) {
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (method !== "GET" && known?.csrf) headers["X-CSRF-Token"] = known.csrf;
  let answer;
  let text;
  try {
    answer = await fetch(path, {
      method, headers, cache: "no-store", credentials: "same-origin",
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    text = await answer.text();
  } catch {
    throw new ApiError(0, SILENT);
  }
  let content = null;
  try {
    content = text ? JSON.parse(text) : null;
  } catch {
    content = null;
  }
  if (answer.ok) return content;
  const error = new ApiError(answer.status, content?.error ?? undefined);
  error.retryAfter = Math.min(Number(answer.headers.get("Retry-After")) || 1, 5);
  throw error;
}

/**
 * Follows a stream of server-sent events: `handlers` has a function for each event's name, given its data.
 * `handlers.connection`, if there is one, is told `open` and `lost`. Ends by `close()` of what is returned only:
 * a stream that breaks is taken up again.
 */
export function stream(path, handlers) {
  let source = null;
  let again = null;
  let pause = 1;
  let closed = false;
  let told = null;

  const tell = (state) => {
    if (closed || told === state) return;
    told = state;
    handlers.connection?.(state);
  };

  const open = () => {
    source = new EventSource(path);
    source.onopen = () => {
      pause = 1;
      tell("open");
    };
    source.onerror = () => {
      tell("lost");
      // The browser comes back by itself from a cut, but not from an answer such as 401 or 503.
      if (source.readyState === EventSource.CLOSED && !closed) {
        source.close();
        again = setTimeout(retry, pause * 1000);
        pause = Math.min(pause * 2, 15);
      }
    };
    for (const [name, handler] of Object.entries(handlers)) {
      if (name === "connection") continue;
      source.addEventListener(name, (event) => {
        if (!closed) handler(JSON.parse(event.data), event);
      });
    }
  };

  const retry = async () => {
    try {
      const now = await loadSession();
      if (now.token_needed && !now.signed_in) return toLogin();
    } catch {
      // It does not answer yet.
    }
    if (!closed) open();
  };

  open();
  return {
    close() {
      closed = true;
      clearTimeout(again);
      source?.close();
    },
  };
}
