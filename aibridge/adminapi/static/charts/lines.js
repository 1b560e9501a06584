// Quantiles over time: one line each.

import { h, s } from "../dom.js";
import { fullTime } from "../format.js";
import { across, canvas, plot, timeAxis, walkable } from "./frame.js";
import { linear, ticks } from "./scale.js";

const LEFT = 56;
const TOP = 8;
const BOTTOM = 24;
const HEIGHT = 200;

export const QUANTILES = ["p50", "p90", "p99"];

/** How a quantile is drawn, for a legend. */
export function quantileSign(name) {
  return s(
    "svg",
    { class: "sign", viewBox: "0 0 28 12", "aria-hidden": "true" },
    s("path", { class: `line ${name}`, d: "M0 6h28" }),
    s("path", { class: `dot ${name}`, d: DOTS[name] }),
  );
}

/** Its shape around the middle of a field of 28 by 12. */
const DOTS = {
  p50: "M14 2.5a3.5 3.5 0 1 1 0 7a3.5 3.5 0 1 1 0-7z",
  p90: "M14 1.5l4.5 4.5-4.5 4.5-4.5-4.5z",
  p99: "M10.5 2.5h7v7h-7z",
};

/** Lines of `points`, `{at, p50, p90, p99}`, each for `wide` seconds; a gap is a gap. */
export function quantileLines({ label, points, since, until, wide, format }) {
  const readout = h("p", { class: "readout", "aria-live": "polite" });
  const levels = ticks(Math.max(0, ...points.flatMap((point) => QUANTILES.map((name) => point[name] ?? 0))));
  const draw = (width) => {
    const x = linear([since, until], [LEFT, width - 6]);
    const y = linear([0, levels.at(-1)], [HEIGHT - BOTTOM, TOP]);
    const middle = (point) => x(Math.min(Math.max(point.at + wide / 2, since), until));
    const cursor = s("line", { class: "axis", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" });
    const lines = QUANTILES.toReversed().map((name) => [
      s("path", { class: `line ${name}`, d: path(points, name, middle, y, wide) }),
      points.length < 40 &&
        points
          .filter((point) => point[name] != null)
          .map((point) => s("circle", { class: `dot ${name}`, cx: middle(point), cy: y(point[name]), r: 2.5 })),
    ]);
    const svg = canvas(
      width,
      HEIGHT,
      across(levels, y, LEFT, width - 6, format),
      cursor,
      lines,
      timeAxis(since, until, x, HEIGHT - BOTTOM, width - LEFT),
    );
    const show = (place) => {
      cursor.setAttribute("visibility", place === null ? "hidden" : "visible");
      if (place === null) return readout.replaceChildren();
      const point = points[place];
      cursor.setAttribute("x1", middle(point));
      cursor.setAttribute("x2", middle(point));
      return readout.replaceChildren(
        h("span", {}, fullTime(point.at)),
        ...QUANTILES.map((name) => h("span", {}, `${name} ${format(point[name])}`)),
      );
    };
    walkable(svg, label, { many: points.length, at: (where) => nearest(points, where, middle), show });
    return svg;
  };
  return [plot(label, draw), readout];
}

function path(points, name, x, y, wide) {
  let before = null;
  return points
    .filter((point) => point[name] != null)
    .map((point) => {
      const apart = before === null || point.at - before > wide * 1.5;
      before = point.at;
      return `${apart ? "M" : "L"}${x(point).toFixed(1)} ${y(point[name]).toFixed(1)}`;
    })
    .join("");
}

function nearest(points, where, x) {
  let found = null;
  points.forEach((point, place) => {
    if (found === null || Math.abs(x(point) - where) < Math.abs(x(points[found]) - where)) found = place;
  });
  return found;
}
