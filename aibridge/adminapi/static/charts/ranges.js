// From p50 over p90 to p99, a row for each group, on a logarithmic axis.

import { s } from "../dom.js";
import { canvas, plot } from "./frame.js";
import { decades, logarithmic } from "./scale.js";

const RIGHT = 14;
const LEFT = 8;
const BOTTOM = 22;

/** Rows are `{name, p50, p90, p99}`, all above zero. */
export function quantileRanges({ label, rows, format }) {
  const values = rows.flatMap(({ p50, p90, p99 }) => [p50, p90, p99]);
  const levels = decades(Math.min(...values), Math.max(...values));
  return plot(label, (width) => {
    const narrow = width < 420; // the numbers get a line of their own
    const row = narrow ? 56 : 40;
    const height = rows.length * row + BOTTOM;
    const x = logarithmic([levels[0], levels.at(-1)], [LEFT, width - RIGHT]);
    const lines = levels.map((level, place) => [
      s("line", { class: "grid", x1: x(level), x2: x(level), y1: 0, y2: height - BOTTOM }),
      s(
        "text",
        {
          x: x(level),
          y: height - 6,
          "text-anchor": place === 0 ? "start" : place === levels.length - 1 ? "end" : "middle",
        },
        format(level),
      ),
    ]);
    return canvas(
      width,
      height,
      lines,
      rows.map((one, place) => range(one, place * row, x, format, width, narrow)),
    );
  });
}

function range({ name, p50, p90, p99 }, top, x, format, width, narrow) {
  const y = top + (narrow ? 44 : 28);
  const least = Math.min(p50, p99);
  const numbers = `${format(p50)}  ·  ${format(p90)}  ·  ${format(p99)}`;
  const room = Math.max(8, Math.floor((width - (narrow ? 0 : numbers.length * 6.2) - 24) / 6.6));
  return [
    s("text", { class: "strong", x: LEFT, y: top + 15 }, name.length > room ? `${name.slice(0, room - 1)}…` : name),
    s("text", narrow ? { x: LEFT, y: top + 30 } : { x: width - RIGHT, y: top + 15, "text-anchor": "end" }, numbers),
    s("line", { class: "span", x1: x(least), x2: x(Math.max(p50, p99)), y1: y, y2: y }),
    s("circle", { class: "dot", cx: x(p50), cy: y, r: 4 }),
    s("path", { class: "dot p90", d: `M${x(p90)} ${y - 4.5}l4.5 4.5-4.5 4.5-4.5-4.5z` }),
    s("rect", { class: "dot p99", x: x(p99) - 3.5, y: y - 3.5, width: 7, height: 7 }),
  ];
}
