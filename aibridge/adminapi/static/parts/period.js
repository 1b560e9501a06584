// Which time a view is about. The address holds it: a span that ends now (`period`), or two moments (`since`, `until`).

import { h } from "../dom.js";
import { fullTime, moment } from "../format.js";
import { changed, link } from "../router.js";
import { choice } from "./page.js";

const SPANS = { "15m": 900, "1h": 3600, "24h": 86400, "7d": 7 * 86400, "30d": 30 * 86400 };
const USUAL = "24h";

export const BUCKETS = { minute: 60, hour: 3600, day: 86400 };

/** The time that the address names: `since` and `until` in seconds, a bucket that suits, and `query` for the API. */
export function periodOf(parameters) {
  const now = Date.now() / 1000;
  const since = number(parameters.get("since"));
  const until = number(parameters.get("until"));
  if (since !== null || until !== null) return made(since ?? 0, until ?? now, null, { since, until });
  const span = Object.hasOwn(SPANS, parameters.get("period")) ? parameters.get("period") : USUAL;
  // To the second, so that what is asked twice in one view is one time.
  const from = Math.floor(now - SPANS[span]);
  return made(from, now, span, { since: from });
}

function number(text) {
  return text !== null && text !== "" && Number.isFinite(Number(text)) ? Number(text) : null;
}

function made(since, until, span, query) {
  const length = until - since;
  const bucket = length <= 3 * 3600 ? "minute" : length <= 8 * 86400 ? "hour" : "day";
  return {
    since,
    until,
    span,
    query,
    bucket,
    text: span ? `the last ${span}` : `${moment(since)} to ${moment(until)}`,
  };
}

/** Links to other times. */
export function picker(path, parameters, period) {
  const to = (span) => link(path, changed(parameters, { period: span, since: "", until: "" }));
  const items = Object.keys(SPANS).map((span) => [span, to(span), span === period.span]);
  return h(
    "div",
    { class: "choices" },
    !period.span &&
      h(
        "a",
        {
          class: "chip",
          href: to(""),
          title: `${fullTime(period.since)} to ${fullTime(period.until)}`,
          "aria-label": `${period.text}: remove`,
        },
        period.text,
        " ×",
      ),
    choice("Period", items),
  );
}

/** What a link to the same time elsewhere has to say. */
export function sameTime(period) {
  return period.span ? { period: period.span } : { since: period.query.since, until: period.query.until };
}
