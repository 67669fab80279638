// Round numbers for axes.

const TIMES = [
  0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800,
  3600, 7200, 3 * 3600, 6 * 3600, 12 * 3600, 86400, 2 * 86400, 7 * 86400, 14 * 86400, 30 * 86400,
];

/** Round values from 0 to at least `most`. `time`: seconds, in steps that people count in. `whole`: no fractions. */
export function ticks(most, wanted = 4, { time = false, whole = false } = {}) {
  const top = most > 0 ? most : 1;
  const least = top / wanted;
  let step = time ? TIMES.find((one) => one >= least) : undefined;
  if (step === undefined) {
    const power = 10 ** Math.floor(Math.log10(least));
    step = [1, 2, 5, 10].map((factor) => factor * power).find((one) => one >= least * 0.999);
  }
  if (whole) step = Math.max(1, Math.round(step));
  const values = [0];
  while (values[values.length - 1] < top * 0.999) values.push(values.length * step);
  return values;
}

/** Indices of at most `most` of `n` things, evenly spread, always with the last. */
export function every(n, most) {
  if (n === 0) return [];
  const step = Math.max(1, Math.ceil(n / most));
  const found = [];
  for (let index = n - 1; index >= 0; index -= step) found.unshift(index);
  return found;
}

const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

/** A number for an axis: `12.5K`. */
export function compact(n) {
  return short.format(n);
}
