// Keeps a page fresh: asks again after events and from time to time, never twice at once, never in the background.

/**
 * `ask()` fetches soon: after `pause` ms, so that many events make one request, and `least` ms after the last time.
 * `every` ms it is fetched anyway, while somebody looks. Errors are left to the next time: the frame shows whether the daemon is heard.
 */
export function refetch(context, fetch, { pause = 400, least = 0, every = null } = {}) {
  let timer = null;
  let busy = false;
  let wanted = false;
  let left = false;
  let last = Date.now();

  async function go() {
    timer = null;
    if (left) return;
    if (document.hidden || busy) {
      wanted = true;
      return;
    }
    busy = true;
    wanted = false;
    try {
      await fetch();
    } catch (error) {
      if (error.name !== "ApiError") throw error;
    } finally {
      busy = false;
      last = Date.now();
      if (wanted) ask();
    }
  }

  function ask() {
    if (!left && timer === null) timer = setTimeout(go, Math.max(pause, least - (Date.now() - last)));
  }

  function seen() {
    if (!document.hidden && (wanted || (every && Date.now() - last >= every))) ask();
  }

  document.addEventListener("visibilitychange", seen);
  const clock = every ? setInterval(() => !document.hidden && timer === null && go(), every) : null;
  context.onLeave(() => {
    left = true;
    clearTimeout(timer);
    clearInterval(clock);
    document.removeEventListener("visibilitychange", seen);
  });
  return ask;
}
