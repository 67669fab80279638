// Follows a run while somebody looks, and works out how fast it goes.

import { stream } from "./api.js";

// A browser opens few connections to one host, and pages in the background would use them up.

/** As `stream`, but only while the page is seen. `handlers.connection` hears `open` each time it begins anew. */
export function watch(path, handlers) {
  let current = null;
  let closed = false;
  const look = () => {
    if (closed || document.hidden) {
      current?.close();
      current = null;
    } else if (!current) current = stream(path, handlers);
  };
  document.addEventListener("visibilitychange", look);
  look();
  return {
    close() {
      closed = true;
      document.removeEventListener("visibilitychange", look);
      look();
    },
  };
}

// Long enough to be calm, short enough to show that something stands still.
const SPAN = 8000;

/** Follows a run: `progress(run)` each second, with `rate` (rows read per second, or null) on it and each partition. */
export function followRun(runId, { progress, end, connection }) {
  const speed = meter();
  const following = watch(`/api/v1/runs/${encodeURIComponent(runId)}/progress`, {
    progress: (run) => progress(speed(run)),
    end: (summary) => {
      // The browser would ask for a stream that has ended again and again.
      following.close();
      end?.(summary);
    },
    connection,
  });
  return following;
}

/** Adds rates to a run's numbers, from those of the last seconds. */
export function meter() {
  const seen = [];
  return (run) => {
    const now = performance.now();
    const read = new Map(run.partitions.map((partition) => [partition.name, partition.extracted]));
    seen.push([now, read]);
    while (seen.length > 2 && now - seen[0][0] > SPAN) seen.shift();
    const [before, then] = seen[0];
    const seconds = (now - before) / 1000;
    const of = (partition) => {
      if (seconds < 0.5 || !then.has(partition.name)) return null;
      // A new attempt begins behind the last commit, so the number may fall.
      return Math.max(0, partition.extracted - then.get(partition.name)) / seconds;
    };
    const partitions = run.partitions.map((partition) => ({ ...partition, rate: of(partition) }));
    const known = partitions.filter((partition) => partition.rate !== null);
    return { ...run, partitions, rate: known.length ? known.reduce((sum, one) => sum + one.rate, 0) : null };
  };
}
