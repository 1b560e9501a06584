// Tables: of records, and of what stands behind a plot.

import { h, s } from "../dom.js";

/**
 * A table.
 *
 * `columns` are `{name, of, number, wide}`: `of(row)` gives a cell's text or node. The first one heads its row. With
 * `cards` a row becomes a card on a narrow screen.
 */
export function table(caption, columns, rows, { cards = false, hidden = false } = {}) {
  const cell = (column, row, first) =>
    h(
      first ? "th" : "td",
      {
        scope: first ? "row" : null,
        class: [column.number && "number", column.wide && "wide"].filter(Boolean).join(" ") || null,
        "data-label": cards ? column.name : null,
      },
      column.of(row),
    );
  return h(
    "div",
    { class: "scroll", tabindex: cards ? null : 0, role: cards ? null : "group", "aria-label": cards ? null : caption },
    h(
      "table",
      { class: cards ? "cards" : null },
      h("caption", { class: hidden ? "quiet-text" : null }, caption),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          columns.map(({ name, number }) => h("th", { scope: "col", class: number ? "number" : null }, name)),
        ),
      ),
      h(
        "tbody",
        {},
        rows.map((row) =>
          h(
            "tr",
            {},
            columns.map((column, place) => cell(column, row, place === 0)),
          ),
        ),
      ),
    ),
  );
}

/** The numbers behind a plot, for whoever would rather read. */
export function behind(caption, columns, rows) {
  return h(
    "details",
    { class: "data" },
    h("summary", {}, `Numbers: ${caption}`),
    table(caption, columns, rows, { hidden: true }),
  );
}

/** A bar in a cell: `part` of `all`. The number beside it says the same. */
export function meter(part, all, kind) {
  const width = all > 0 ? Math.max(0, Math.min(100, (100 * part) / all)) : 0;
  return s(
    "svg",
    { class: `meter ${kind ?? ""}`, "aria-hidden": "true", preserveAspectRatio: "none", viewBox: "0 0 100 8" },
    s("rect", { width: 100, height: 8 }),
    width > 0 && s("rect", { class: "fill", width: Math.max(width, 0.5), height: 8 }),
  );
}
