// How quickly: time to the first event, tokens a second, durations; as quantiles, by model or provider, and over time.

import { get } from "../api.js";
import { quantileLines, quantileSign, QUANTILES } from "../charts/lines.js";
import { quantileRanges } from "../charts/ranges.js";
import { h } from "../dom.js";
import { capital, count, fullTime, named, rate, seconds } from "../format.js";
import { choice, empty, head, panel } from "../parts/page.js";
import { BUCKETS, periodOf, picker } from "../parts/period.js";
import { behind } from "../parts/table.js";
import { changed, go, link } from "../router.js";

const MEASURES = [
  ["time_to_first_event", "Time to the first event", seconds, "Lower is better."],
  [
    "tokens_per_second",
    "Output tokens a second",
    rate,
    "Behind the first event. Higher is better, so that p50 is the slower half here.",
  ],
  ["duration", "Duration", seconds, "From the request’s acceptance to the end."],
];
const GROUPS = ["model", "provider"];

export async function render({ parameters, signal }) {
  const period = periodOf(parameters);
  const by = GROUPS.includes(parameters.get("by")) ? parameters.get("by") : "model";
  const { items: groups, sampled } = await get("latency", { ...period.query, by }, signal);
  const most = groups.toSorted((one, other) => other.count - one.count)[0]?.name;
  const chosen = parameters.get("of") ?? most;
  const { items: times } =
    chosen === undefined
      ? { items: [] }
      : await get("latency", { ...period.query, by, [by]: chosen, bucket: period.bucket }, signal);
  const choose = (event) => go(link("latency", changed(parameters, { of: event.target.value })));
  return [
    head(
      "Latency",
      "Of completed answers. Half of them are at p50 or below it, nine of ten at p90, all but one of a hundred at p99.",
      h(
        "div",
        { class: "choices" },
        choice(
          "Group by",
          GROUPS.map((name) => [`By ${name}`, link("latency", changed(parameters, { by: name, of: "" })), name === by]),
        ),
        picker("latency", parameters, period),
      ),
    ),
    h(
      "div",
      { class: "stack" },
      groups.length > 1 &&
        h(
          "label",
          { class: "of" },
          `Over time: ${by}`,
          h(
            "select",
            { onchange: choose, "data-keep": "of" },
            groups.map(({ name }) => h("option", { value: name, selected: name === chosen }, named(name))),
          ),
        ),
      sampled && h("p", { class: "note" }, "There are so many answers that these are of the latest alone."),
      MEASURES.map((measure) => measurePanel(measure, { groups, times, by, chosen, period })),
    ),
  ];
}

function measurePanel([name, title, format, lead], { groups, times, by, chosen, period }) {
  const points = quantiles(times, name);
  const rows = quantiles(groups, name).map((row) => ({ ...row, name: named(row.name) }));
  if (!rows.length) return panel(title, { lead }, empty("Nothing was measured in this time."));
  const told = rows
    .map((row) => `${row.name}: ${QUANTILES.map((at) => `${at} ${format(row[at])}`).join(", ")}`)
    .join("; ");
  return panel(
    title,
    { lead, aside: quantileLegend() },
    h(
      "div",
      { class: "pair" },
      h(
        "div",
        {},
        h("h3", { class: "note" }, named(chosen)),
        points.length
          ? quantileLines({
              label: `${title} of ${named(chosen)}, for each ${period.bucket} of ${period.text}.`,
              points,
              since: period.since,
              until: period.until,
              wide: BUCKETS[period.bucket],
              format,
            })
          : empty("Nothing was measured of it."),
      ),
      h(
        "div",
        {},
        h("h3", { class: "note" }, `By ${by}`),
        quantileRanges({ label: `${title} by ${by}. ${told}.`, rows: rows.filter((row) => row.p50 > 0), format }),
      ),
    ),
    behind(`by ${by}`, [{ name: capital(by), wide: true, of: (row) => row.name }, ...numbers(format)], rows),
    points.length > 0 &&
      behind(
        `${named(chosen)} by ${period.bucket}`,
        [{ name: "Time", of: (row) => fullTime(row.at) }, ...numbers(format)],
        points,
      ),
  );
}

function quantiles(items, name) {
  return items.filter((item) => item[name] !== null).map((item) => ({ ...item, ...item[name] }));
}

function numbers(format) {
  return [
    ...QUANTILES.map((at) => ({ name: at, number: true, of: (row) => format(row[at]) })),
    { name: "Answers", number: true, of: (row) => count(row.count) },
  ];
}

function quantileLegend() {
  return h(
    "ul",
    { class: "legend" },
    QUANTILES.map((name) => h("li", {}, quantileSign(name), name)),
  );
}
