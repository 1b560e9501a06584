// How interceptions ended over time; from a termination to its causes, from a cause to the records.

import { get } from "../api.js";
import { stackedColumns } from "../charts/columns.js";
import { h } from "../dom.js";
import { count, fullTime, percent, words } from "../format.js";
import { CAUSES, TERMINATIONS } from "../outcomes.js";
import { chips, filtersOf } from "../parts/filters.js";
import { empty, head, legend, mark, panel, tiles } from "../parts/page.js";
import { BUCKETS, periodOf, picker, sameTime } from "../parts/period.js";
import { behind, meter, table } from "../parts/table.js";
import { changed, go, link } from "../router.js";

export async function render({ parameters, signal }) {
  const period = periodOf(parameters);
  const { termination, ...others } = filtersOf(parameters);
  const { items } = await get("outcomes", { ...period.query, ...others, bucket: period.bucket }, signal);
  const total = (kind) =>
    items.filter((item) => !kind || item.termination === kind).reduce((sum, item) => sum + item.count, 0);
  const to = (kind) => link("outcomes", changed(parameters, { termination: kind }));
  const all = total();
  return [
    head(
      "Outcomes",
      "How interceptions ended. Choose a termination for its causes, and a column for its time.",
      picker("outcomes", parameters, period),
    ),
    h(
      "div",
      { class: "stack" },
      chips("outcomes", parameters),
      tiles("In this time", [
        ["All ended", count(all)],
        ...TERMINATIONS.map((kind) => [[mark(kind), ` ${words(kind)}`], percent(total(kind), all), count(total(kind))]),
      ]),
      panel(
        "Over time",
        {
          aside: legend(
            TERMINATIONS.map((kind) => ({ kind, label: words(kind), target: to(termination === kind ? "" : kind) })),
          ),
        },
        all ? overTime(items, period, parameters, others, termination) : empty("Nothing ended in this time."),
      ),
      all > 0 && causesPanel(items, termination, period, others, parameters),
    ),
  ];
}

function overTime(items, period, parameters, others, termination) {
  const columns = inColumns(items);
  const series = TERMINATIONS.filter((kind) => !termination || kind === termination).map((kind) => ({
    kind,
    label: words(kind),
  }));
  const wide = BUCKETS[period.bucket];
  const pick = (column, kind) =>
    go(
      link(
        "outcomes",
        changed(parameters, {
          since: column.at,
          until: column.at + wide,
          period: "",
          termination: kind ?? termination,
        }),
      ),
    );
  return [
    stackedColumns({
      label: `Interceptions that ended, for each ${period.bucket} of ${period.text}, by termination.`,
      columns,
      series,
      since: Math.floor(period.since / wide) * wide,
      until: period.until,
      wide,
      format: count,
      least: 1,
      pick: period.bucket === "minute" && !period.span ? null : pick,
    }),
    behind(
      `by ${period.bucket}`,
      [
        {
          name: "Time",
          of: ({ at }) => {
            const target = link("interceptions", { ...others, since: at, until: at + wide });
            return h("a", { href: target }, fullTime(at));
          },
        },
        ...series.map(({ kind, label }) => ({
          name: label,
          number: true,
          of: ({ values }) => count(values[kind] ?? 0),
        })),
      ],
      columns,
    ),
  ];
}

function inColumns(items) {
  const columns = new Map();
  for (const { at, termination, count: many } of items) {
    const column = columns.get(at) ?? columns.set(at, { at, values: {} }).get(at);
    column.values[termination] = (column.values[termination] ?? 0) + many;
  }
  return [...columns.values()].toSorted((one, other) => one.at - other.at);
}

function causesPanel(items, termination, period, others, parameters) {
  const sums = new Map();
  for (const { cause, termination: kind, count: many } of items) {
    if (termination ? kind === termination : kind !== "completed")
      sums.set(cause, { cause, kind, many: (sums.get(cause)?.many ?? 0) + many });
  }
  const rows = [...sums.values()].toSorted((one, other) => other.many - one.many);
  const all = rows.reduce((sum, { many }) => sum + many, 0);
  const target = (row) =>
    link("interceptions", { ...others, ...sameTime(period), termination: row.kind, cause: row.cause });
  const title = termination ? `Causes of ${words(termination)}` : "Causes of all that did not complete";
  return panel(
    title,
    {
      lead: "Each leads to its interceptions.",
      aside:
        termination &&
        h(
          "a",
          { class: "button small aside", href: link("outcomes", changed(parameters, { termination: "" })) },
          "All terminations",
        ),
    },
    rows.length
      ? table(
          title,
          [
            {
              name: "Cause",
              wide: true,
              of: (row) => [
                h("span", { class: "outcome" }, mark(row.kind), h("a", { href: target(row) }, words(row.cause))),
                h("span", { class: "sub" }, CAUSES[row.cause]?.[1]),
                meter(row.many, rows[0].many, row.kind),
              ],
            },
            { name: "Interceptions", number: true, of: (row) => count(row.many) },
            { name: "Share", number: true, of: (row) => percent(row.many, all) },
          ],
          rows,
          { cards: true, hidden: true },
        )
      : empty("None."),
  );
}
