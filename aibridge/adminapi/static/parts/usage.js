// Tokens and cost of one interception.

import { h } from "../dom.js";
import { count, money, words } from "../format.js";
import { unpriced } from "../story.js";
import { empty, facts, panel } from "./page.js";
import { meter, table } from "./table.js";

const KINDS = [
  ["input_tokens", "Input", "series-1"],
  ["cache_read_input_tokens", "Input read from the cache", "series-2"],
  ["cache_creation_input_tokens", "Input written to the cache", "series-4"],
  ["output_tokens", "Output", "series-3"],
];

/** What an interception used and cost, or why that is not known. */
export function usagePanel({ usage }) {
  if (!usage) return panel("Usage and cost", {}, empty("The provider told no token counts, so there is no cost."));
  const rows = KINDS.map(([name, label, kind]) => ({ label, kind, value: usage[name] }));
  const extras = Object.entries(usage.extras ?? {}).map(([name, value]) => ({
    label: words(name),
    kind: "series-6",
    value,
  }));
  const most = Math.max(0, ...rows.map(({ value }) => value ?? 0));
  return panel(
    "Usage and cost",
    {},
    table(
      "Token counts, as the provider told them",
      [
        { name: "Tokens", wide: true, of: ({ label, value, kind }) => [label, meter(value ?? 0, most, kind)] },
        { name: "Count", number: true, of: ({ value }) => count(value) },
      ],
      [...rows, ...extras],
      { hidden: true },
    ),
    facts([
      [
        "Cost",
        usage.cost_nanodollars === null
          ? `Not known: ${unpriced(usage.unpriced)}.`
          : h("b", {}, money(usage.cost_nanodollars)),
      ],
      ["Prices", usage.price_version],
      ["Counts", words(usage.usage_source)],
      ["Service tier", usage.service_tier],
      ["Region", usage.region],
      ["Turns of a tool loop", usage.turns?.length],
    ]),
  );
}
