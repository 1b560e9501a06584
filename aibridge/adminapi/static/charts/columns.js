// Stacked columns over time.

import { h, s } from "../dom.js";
import { fullTime } from "../format.js";
import { across, canvas, plot, timeAxis, walkable } from "./frame.js";
import { linear, ticks } from "./scale.js";

const LEFT = 52;
const TOP = 8;
const BOTTOM = 24;

/**
 * Stacked columns.
 *
 * `columns` are `{at, values}`, values by the kinds of `series` (`{kind, label}`, from the ground up), each `wide`
 * seconds. `least` is what an axis may not divide. `pick(column, kind)` is called for one that is chosen; kind is null where a whole column is.
 */
export function stackedColumns({ label, columns, series, since, until, wide, format, pick, least = 0, height = 240 }) {
  const readout = h("p", { class: "readout", "aria-live": "polite" });
  const sum = (column) => series.reduce((total, { kind }) => total + (column.values[kind] ?? 0), 0);
  const levels = ticks(Math.max(0, ...columns.map(sum)), { least });
  const tell = (column) => {
    const parts = series
      .filter(({ kind }) => column.values[kind])
      .map(({ kind, label: name }) => h("span", {}, `${name} ${format(column.values[kind])}`));
    readout.replaceChildren(h("span", {}, fullTime(column.at)), ...(parts.length ? parts : ["nothing"]));
  };
  const draw = (width) => {
    const x = linear([since, Math.max(until, columns.at(-1).at + wide)], [LEFT, width - 4]);
    const y = linear([0, levels.at(-1)], [height - BOTTOM, TOP]);
    const thick = Math.max(1, x(since + wide) - x(since) - (x(since + wide) - x(since) > 4 ? 1.5 : 0));
    const shade = s("rect", {
      class: "picked",
      y: TOP,
      height: height - BOTTOM - TOP,
      width: thick,
      visibility: "hidden",
    });
    const bars = columns.map((column) => stack(column, series, x(column.at), thick, y));
    const svg = canvas(
      width,
      height,
      across(levels, y, LEFT, width - 4, format),
      shade,
      bars,
      timeAxis(since, until, x, height - BOTTOM, width - LEFT),
    );
    const show = (place) => {
      shade.setAttribute("visibility", place === null ? "hidden" : "visible");
      if (place === null) return readout.replaceChildren();
      shade.setAttribute("x", x(columns[place].at));
      return tell(columns[place]);
    };
    const at = (where) => {
      const found = columns.findIndex((column) => where >= x(column.at) && where < x(column.at + wide));
      return found < 0 ? null : found;
    };
    walkable(svg, label, {
      many: columns.length,
      at,
      show,
      pick: pick && ((place, target) => pick(columns[place], target?.dataset.kind ?? null)),
    });
    return svg;
  };
  return [plot(label, draw), readout];
}

function stack(column, series, x, width, y) {
  let under = 0;
  return series
    .filter(({ kind }) => column.values[kind])
    .map(({ kind }) => {
      const [from, to] = [under, (under += column.values[kind])];
      const height = Math.max(y(from) - y(to), 1); // one of a thousand is seen, too
      return s("rect", { class: `fill ${kind}`, "data-kind": kind, x, y: y(to), width, height });
    });
}
