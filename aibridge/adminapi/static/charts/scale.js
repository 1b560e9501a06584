// From values to places, and round values for axes.

/** A linear scale from a domain to a range. */
export function linear([from, to], [start, end]) {
  const factor = to === from ? 0 : (end - start) / (to - from);
  return (value) => start + (value - from) * factor;
}

/** A logarithmic one; all values are above zero. */
export function logarithmic([from, to], range) {
  const scale = linear([Math.log(from), Math.log(to)], range);
  return (value) => scale(Math.log(Math.max(value, from)));
}

/** Round values from 0 to at least `top`; `least` apart where less says nothing, as parts of one do of a count. */
export function ticks(top, { many = 4, least = 0 } = {}) {
  if (!(top > 0)) return [0, 1];
  const rough = Math.max(top / many, least);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10]
    .map((factor) => factor * power)
    .find((size) => size >= rough * 0.999 && (!least || size % least === 0));
  const found = [];
  for (let at = 0; found.length === 0 || found.at(-1) < top * 0.999; at += 1)
    found.push(Number((at * step).toPrecision(12)));
  return found;
}

/** Powers of ten around two values. */
export function decades(least, most) {
  const found = [];
  for (let power = Math.floor(Math.log10(least)); ; power += 1) {
    found.push(10 ** power);
    if (10 ** power >= most) return found;
  }
}

const STEPS = [
  10, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800, 1209600, 2592000,
];

/** Moments between two, at most `many`, on round local times. */
export function moments(since, until, many) {
  const step = STEPS.find((size) => (until - since) / size <= many) ?? 7776000;
  const shift = new Date(since * 1000).getTimezoneOffset() * 60;
  const found = [];
  for (let at = Math.ceil((since - shift) / step) * step + shift; at <= until; at += step) found.push(at);
  return { step, found };
}

const hours = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const withSeconds = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const days = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

/** A moment as an axis with such a step says it: days where a day begins, else hours. */
export function axisTime(at, step) {
  const date = new Date(at * 1000);
  const midnight = date.getHours() === 0 && date.getMinutes() === 0 && date.getSeconds() === 0;
  if (step >= 86400 || midnight) return days.format(date);
  return step < 60 ? withSeconds.format(date) : hours.format(date);
}
