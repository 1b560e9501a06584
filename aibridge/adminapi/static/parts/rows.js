// Interceptions as rows of a table.

import { h } from "../dom.js";
import { compact, day, money, named, seconds, timeOfDay } from "../format.js";
import { link } from "../router.js";
import { causeOf } from "./failing.js";
import { outcome, time } from "./page.js";
import { table } from "./table.js";

const COLUMNS = [
  {
    name: "Began",
    of: (row) => [
      h("a", { href: link(["interceptions", row.id]) }, time(row.started_at, timeOfDay)),
      sub(day(row.started_at)),
    ],
  },
  {
    name: "Outcome",
    of: (row) => [outcome(row.termination), row.cause !== "clean" && row.cause && sub(causeOf(row))],
  },
  { name: "Model", wide: true, of: (row) => [named(row.model), sub(answeredBy(row))] },
  { name: "Actor", wide: true, of: (row) => [named(row.actor_name || row.actor_id), sub(named(row.client))] },
  { name: "First event", number: true, of: (row) => seconds(row.time_to_first_event) },
  { name: "Duration", number: true, of: (row) => seconds(row.duration) },
  { name: "Tokens", number: true, of: tokens },
  { name: "Cost", number: true, of: (row) => money(row.cost_nanodollars) },
];

/** A table of interceptions, each with a link to its page. */
export function interceptionTable(caption, rows) {
  return table(caption, COLUMNS, rows, { cards: true });
}

function sub(text) {
  return h("span", { class: "sub" }, text);
}

/** All tokens that went in, cached ones too; null where none was told. */
export function inputOf(row) {
  const counts = [row.input_tokens, row.cache_read_input_tokens, row.cache_creation_input_tokens];
  return counts.every((value) => value === null || value === undefined)
    ? null
    : counts.reduce((sum, value) => sum + (value ?? 0), 0);
}

function tokens(row) {
  const input = inputOf(row);
  return input === null && row.output_tokens === null
    ? "–"
    : [`${compact(input)} in`, sub(`${compact(row.output_tokens)} out`)];
}

function answeredBy({ provider, answered_by: by }) {
  return by && by !== provider ? `${provider}, answered by ${by}` : provider;
}
