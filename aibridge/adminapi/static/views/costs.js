// What it costs, and who or what the money goes to.

import { get } from "../api.js";
import { stackedColumns } from "../charts/columns.js";
import { h } from "../dom.js";
import { capital, compact, count, money, named, plural } from "../format.js";
import { choice, empty, head, legend, panel, tiles } from "../parts/page.js";
import { periodOf, picker, sameTime } from "../parts/period.js";
import { inputOf } from "../parts/rows.js";
import { behind, meter, table } from "../parts/table.js";
import { changed, link } from "../router.js";

const GROUPS = ["model", "actor", "tool", "provider", "client"];
const SERIES = 6;
const DAY = 86400;

export async function render({ parameters, signal }) {
  const period = periodOf(parameters);
  const by = GROUPS.includes(parameters.get("by")) ? parameters.get("by") : "model";
  const [days, groups] = await Promise.all([
    get("usage", { ...period.query, by: "day,model" }, signal),
    get("usage", { ...period.query, by }, signal),
  ]);
  const sum = (name) => days.items.reduce((total, row) => total + (row[name] ?? 0), 0);
  const unpriced = sum("unpriced");
  return [
    head(
      "Cost",
      "By the price lists that the gateway has; what has no price is counted apart.",
      picker("costs", parameters, period),
    ),
    h(
      "div",
      { class: "stack" },
      tiles("In this time", [
        ["Cost", money(sum("cost_nanodollars")), unpriced > 0 && `${plural(unpriced, "interception")} without a price`],
        ["Interceptions", compact(sum("requests")), `${count(sum("partial"))} with partial counts`],
        [
          "Tokens in",
          compact(
            inputOf({
              input_tokens: sum("input_tokens"),
              cache_read_input_tokens: sum("cache_read_input_tokens"),
              cache_creation_input_tokens: sum("cache_creation_input_tokens"),
            }),
          ),
          `${compact(sum("cache_read_input_tokens"))} from the cache`,
        ],
        ["Tokens out", compact(sum("output_tokens"))],
      ]),
      panel("By day", {}, days.items.length ? byDay(days.items, period) : empty("Nothing was used in this time.")),
      panel(
        `By ${by}`,
        {
          lead: by === "tool" ? "The cost of the answers in which a model called the tool." : null,
          aside: h(
            "div",
            { class: "aside" },
            choice(
              "Group by",
              GROUPS.map((name) => [capital(name), link("costs", changed(parameters, { by: name })), name === by]),
            ),
          ),
        },
        groups.items.length
          ? byGroup(groups.items, by, period)
          : empty(by === "tool" ? "No tool was called in this time." : "Nothing was used in this time."),
      ),
    ),
  ];
}

function byDay(items, period) {
  const cost = new Map();
  for (const row of items) cost.set(row.model, (cost.get(row.model) ?? 0) + (row.cost_nanodollars ?? 0));
  const order = [...cost].toSorted((one, other) => other[1] - one[1]).map(([model]) => model);
  const apart = order.length > SERIES ? order.slice(0, SERIES - 1) : order;
  const kindOf = (model) => `series-${apart.indexOf(model) + 1 || SERIES}`;
  const series = apart.map((model) => ({ kind: kindOf(model), label: named(model) }));
  if (order.length > SERIES) series.push({ kind: `series-${SERIES}`, label: "others" });
  const columns = new Map();
  for (const row of items) {
    const at = Date.parse(`${row.day}T00:00:00Z`) / 1000;
    const column = columns.get(at) ?? columns.set(at, { at, day: row.day, values: {} }).get(at);
    column.values[kindOf(row.model)] = (column.values[kindOf(row.model)] ?? 0) + (row.cost_nanodollars ?? 0);
  }
  const shown = [...columns.values()].toSorted((one, other) => one.at - other.at);
  const since = Math.min(Math.floor(period.since / DAY) * DAY, shown[0].at);
  return [
    legend(series),
    stackedColumns({
      label: `Cost for each day (UTC) of ${period.text}, by model.`,
      columns: shown,
      series,
      since,
      until: Math.max(period.until, since + 7 * DAY),
      wide: DAY,
      format: money,
      height: 200,
    }),
    behind(
      "by day (UTC)",
      [
        { name: "Day", of: ({ day }) => day },
        ...series.map(({ kind, label }) => ({
          name: label,
          number: true,
          of: ({ values }) => money(values[kind] ?? 0),
        })),
      ],
      shown,
    ),
  ];
}

function byGroup(items, by, period) {
  const rows = items.toSorted((one, other) => (other.cost_nanodollars ?? -1) - (one.cost_nanodollars ?? -1));
  const most = rows[0].cost_nanodollars ?? 0;
  const name = (row) =>
    by === "tool" || !row[by]
      ? named(row[by])
      : h("a", { href: link("interceptions", { [by]: row[by], ...sameTime(period) }) }, named(row[by]));
  return table(
    `Usage by ${by}`,
    [
      { name: capital(by), wide: true, of: (row) => [name(row), meter(row.cost_nanodollars ?? 0, most)] },
      { name: "Cost", number: true, of: (row) => money(row.cost_nanodollars) },
      ...(by === "tool" ? [{ name: "Calls", number: true, of: (row) => count(row.calls) }] : []),
      { name: "Unpriced", number: true, of: (row) => count(row.unpriced) },
      { name: "Interceptions", number: true, of: (row) => count(row.requests) },
      { name: "Tokens in", number: true, of: (row) => compact(inputOf(row)) },
      { name: "From the cache", number: true, of: (row) => compact(row.cache_read_input_tokens) },
      { name: "Tokens out", number: true, of: (row) => compact(row.output_tokens) },
    ],
    rows,
    { cards: true, hidden: true },
  );
}
