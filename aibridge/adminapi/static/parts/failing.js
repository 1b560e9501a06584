// What fails now: of interceptions that have just ended, those whose end is the upstream's fault or ours.

import { h } from "../dom.js";
import { named, percent, words } from "../format.js";
import { link } from "../router.js";
import { mark } from "./page.js";
import { table } from "./table.js";

const FAULTS = new Set(["upstream_error", "gateway_error"]);
const SHOWN = 6;
const SAME_TIME = "15m";

/** What happened, with the upstream's status where that is what happened. */
export function causeOf({ cause, http_status: status }) {
  return cause === "http_status" && status ? `${words(cause)} ${status}` : words(cause);
}

/** Groups of the same provider and cause, the largest first. `rows` are the latest first. */
export function failures(rows) {
  const ended = new Map();
  const groups = new Map();
  for (const row of rows) {
    ended.set(row.provider, (ended.get(row.provider) ?? 0) + 1);
    if (!FAULTS.has(row.termination)) continue;
    const key = JSON.stringify([row.provider, causeOf(row)]);
    const group = groups.get(key) ?? groups.set(key, { latest: row, many: 0 }).get(key);
    group.many += 1;
  }
  return [...groups.values()]
    .map((group) => ({ ...group, all: ended.get(group.latest.provider) }))
    .toSorted((one, other) => other.many - one.many);
}

export function failingTable(rows) {
  const found = failures(rows);
  if (!found.length) return h("p", { class: "note" }, "Nothing.");
  return table(
    "What fails now, the most frequent first",
    [
      {
        name: "Cause",
        of: ({ latest }) => {
          const { provider, termination, cause } = latest;
          const target = link("interceptions", { provider, termination, cause, period: SAME_TIME });
          return h("span", { class: "outcome" }, mark(termination), h("a", { href: target }, causeOf(latest)));
        },
      },
      {
        name: "Provider",
        wide: true,
        of: ({ latest: { provider } }) =>
          h("a", { href: link("outcomes", { provider, period: "1h" }) }, named(provider)),
      },
      { name: "Of its endings", number: true, of: ({ many, all }) => `${many} of ${all} (${percent(many, all)})` },
      {
        name: "The latest",
        wide: true,
        of: ({ latest }) =>
          h(
            "a",
            { class: "clamp", href: link(["interceptions", latest.id]) },
            `${named(latest.model)}: ${latest.error || causeOf(latest)}`,
          ),
      },
    ],
    found.slice(0, SHOWN),
    { cards: true, hidden: true },
  );
}
