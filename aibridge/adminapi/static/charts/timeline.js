// One interception on its own clock: the whole, its attempts, its tools; where the first event came, and the end.

import { s } from "../dom.js";
import { seconds } from "../format.js";
import { kindOf, SHAPES } from "../outcomes.js";
import { canvas, plot } from "./frame.js";
import { linear, ticks } from "./scale.js";

const ROW = 38;
const BOTTOM = 22;
const EDGE = 10;

/**
 * Rows are `{name, more, from, to, first, termination}`: seconds since the beginning. The part before `first` is
 * pale: one waits. A row without `to` is a moment.
 */
export function timeline(label, rows) {
  const end = Math.max(0.001, ...rows.flatMap(({ from, to }) => [from, to ?? from]));
  return plot(label, (width) => {
    const height = rows.length * ROW + BOTTOM;
    const x = linear([0, end], [EDGE, width - EDGE]);
    const levels = ticks(end, { many: Math.max(2, Math.floor(width / 130)) }).filter((level) => level <= end);
    const lines = levels.map((level, place) => [
      s("line", { class: "grid", x1: x(level), x2: x(level), y1: 0, y2: height - BOTTOM }),
      s(
        "text",
        { x: x(level), y: height - 6, "text-anchor": place === 0 ? "start" : x(level) > width - 30 ? "end" : "middle" },
        seconds(level),
      ),
    ]);
    return canvas(
      width,
      height,
      lines,
      rows.map((row, place) => bar(row, place * ROW, x, width)),
    );
  });
}

function bar({ name, more, from, to, first, termination, kind }, top, x, width) {
  const colour = kind ?? kindOf(termination);
  const y = top + 20;
  const label = `${name}${more ? `, ${more}` : ""}`;
  const room = Math.floor((width - 2 * EDGE) / 6.3);
  const start = Math.min(x(from), Math.max(EDGE, width - EDGE - label.length * 6.3));
  const text = s(
    "text",
    { class: "strong", x: start, y: top + 14 },
    label.length > room ? `${label.slice(0, room - 1)}…` : label,
  );
  if (to === undefined || to === null)
    return [
      text,
      s("path", { class: `fill ${colour}`, d: `M${x(from)} ${y}v12`, stroke: "currentColor", "stroke-width": 2 }),
    ];
  const flows = first ?? (termination === "completed" || kind ? from : to);
  const wide = (one, other) => Math.max(x(other) - x(one), 1.5);
  return [
    text,
    flows > from && s("rect", { class: `pale ${colour}`, x: x(from), y, width: wide(from, flows), height: 12, rx: 2 }),
    flows < to && s("rect", { class: `fill ${colour}`, x: x(flows), y, width: wide(flows, to), height: 12, rx: 2 }),
    first !== null &&
      first !== undefined &&
      s("path", { class: "axis", d: `M${x(first)} ${y - 3}v18`, stroke: "currentColor" }),
    SHAPES[termination] &&
      s("path", {
        class: `fill halo ${colour}`,
        d: SHAPES[termination],
        transform: `translate(${x(to) - 8} ${y - 2}) scale(1.33)`,
      }),
  ];
}
