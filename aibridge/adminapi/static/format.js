// Numbers, times and names as people read them.

const NONE = "–";
const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const dayAndTime = new Intl.DateTimeFormat("en-GB", {
  day: "numeric",
  month: "short",
  hour: "2-digit",
  minute: "2-digit",
});
const justDay = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const full = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });

const missing = (value) => value === null || value === undefined;

export function count(value) {
  return missing(value) ? NONE : whole.format(value);
}

/** 12.4K rather than 12,431. */
export function compact(value) {
  return missing(value) ? NONE : short.format(value);
}

/** Seconds, with a unit that fits. */
export function seconds(value) {
  if (missing(value)) return NONE;
  if (value === 0) return "0 s";
  if (value < 0.0995) return `${digits(value * 1000, 2)} ms`;
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 120) return `${digits(value, 3)} s`;
  if (value < 7200) return `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
  if (value < 172800) return `${digits(value / 3600, 3)} h`;
  return `${digits(value / 86400, 3)} days`;
}

function digits(value, many) {
  return String(Number(value.toPrecision(many)));
}

/** The same on an axis, whose values are round. */
export function roundSeconds(value) {
  return value === 0 || value >= 1 ? `${whole.format(value)} s` : `${Number((value * 1000).toPrecision(3))} ms`;
}

/** Tokens a second. */
export function rate(value) {
  return missing(value) ? NONE : digits(value, 3);
}

export function percent(part, all) {
  if (!all) return NONE;
  const share = (100 * part) / all;
  if (part === 0 || part === all) return `${share} %`;
  if (share < 0.1) return "<0.1 %";
  if (share > 99.9) return ">99.9 %";
  return `${share.toFixed(share < 10 || share > 99 ? 1 : 0)} %`;
}

/** Nano-dollars as dollars. */
export function money(nanodollars) {
  if (missing(nanodollars)) return NONE;
  const dollars = nanodollars / 1e9;
  if (dollars === 0) return "$0";
  if (dollars < 0.0001) return "<$0.0001";
  if (dollars < 1) return `$${dollars.toFixed(4)}`;
  return `$${dollars.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 })}`;
}

export function bytes(value) {
  if (missing(value)) return NONE;
  if (value < 1000) return `${value} bytes`;
  return value < 1e6 ? `${digits(value / 1e3, 3)} kB` : `${digits(value / 1e6, 3)} MB`;
}

/** Times are seconds since the epoch; they are shown in the browser's own time zone. */
export function timeOfDay(epoch) {
  return missing(epoch) ? NONE : clock.format(epoch * 1000);
}

export function moment(epoch) {
  return missing(epoch) ? NONE : dayAndTime.format(epoch * 1000);
}

export function day(epoch) {
  return missing(epoch) ? NONE : justDay.format(epoch * 1000);
}

export function fullTime(epoch) {
  return missing(epoch) ? NONE : full.format(epoch * 1000);
}

export function utc(epoch) {
  return missing(epoch) ? "" : new Date(epoch * 1000).toISOString();
}

export function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

export function plural(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

/** A word of a closed set, as people write it. */
export function words(name) {
  return String(name ?? NONE).replaceAll("_", " ");
}

const LONGEST = 80;
const TAIL = 20;

/** A name that somebody outside chose; never empty on the page, and of a long one the ends. */
export function named(text) {
  if (missing(text) || String(text).trim() === "") return "(none)";
  const all = String(text);
  return all.length > LONGEST ? `${all.slice(0, LONGEST - TAIL - 1)}…${all.slice(-TAIL)}` : all;
}
