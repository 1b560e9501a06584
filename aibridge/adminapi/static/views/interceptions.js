// All interceptions, newest first, by filters and in pages. The address says all of it.

import { address, get } from "../api.js";
import { announce, h } from "../dom.js";
import { plural } from "../format.js";
import { copyButton } from "../parts/copy.js";
import { filterForm, filtersOf } from "../parts/filters.js";
import { empty, head, panel } from "../parts/page.js";
import { periodOf, picker } from "../parts/period.js";
import { interceptionTable } from "../parts/rows.js";
import { changed, link } from "../router.js";

const PAGE = 50;

export async function render({ parameters, signal }) {
  const period = periodOf(parameters);
  const asked = { ...period.query, ...filtersOf(parameters) };
  const cursor = parameters.get("cursor");
  const [page, facets] = await Promise.all([
    get("interceptions", { ...asked, cursor, limit: PAGE }, signal),
    get("facets", { since: period.since }, signal),
  ]);
  announce(`${plural(page.items.length, "interception")} on this page.`);
  const file = (format, name) =>
    h(
      "a",
      { class: "button small", href: address("export", { ...asked, format }), download: `interceptions.${format}` },
      name,
    );
  return [
    head(
      "Interceptions",
      "Each request and its answer, and how it ended.",
      picker("interceptions", parameters, period),
    ),
    h(
      "div",
      { class: "stack" },
      panel(
        "Filters",
        { aside: h("div", { class: "aside choices" }, file("csv", "CSV"), file("jsonl", "JSON Lines")) },
        filterForm("interceptions", parameters, facets),
        command(asked),
      ),
      panel(
        "Newest first",
        {},
        page.items.length
          ? interceptionTable(`${plural(page.items.length, "interception")} of ${period.text}`, page.items)
          : nothing(parameters),
        pager(parameters, page.next),
      ),
    ),
  ];
}

/** The export as a line for a shell. An address has no quotation mark that is not escaped. */
function command(asked) {
  const line = `curl -fsS -H "Authorization: Bearer $KEY" '${address("export", { ...asked, format: "csv" })}' -o interceptions.csv`;
  return h(
    "details",
    { class: "data" },
    h("summary", {}, "The export as a command"),
    h("div", { class: "command" }, h("code", {}, line), copyButton(line, "the command")),
  );
}

function nothing(parameters) {
  if (parameters.get("cursor")) return empty("Nothing older.");
  return empty("Nothing here. ", h("a", { href: link("interceptions", { period: "30d" }) }, "All of the last 30 days"));
}

function pager(parameters, next) {
  const cursor = parameters.get("cursor");
  if (!next && !cursor) return null;
  return h(
    "nav",
    { class: "pager", "aria-label": "Pages" },
    cursor && h("a", { class: "button", href: link("interceptions", changed(parameters, {})) }, "Newest"),
    next &&
      h(
        "a",
        { class: "button", rel: "next", href: link("interceptions", changed(parameters, { cursor: next })) },
        "Older",
      ),
  );
}
