// A small line without axes, beside a number that says the same.

import { s } from "../dom.js";
import { linear } from "./scale.js";

const WIDTH = 120;
const HEIGHT = 28;

/** A line of the last values, `many` at most, the newest at the right. */
export function spark(values, many) {
  const y = linear([0, Math.max(1, ...values)], [HEIGHT - 1.5, 1.5]);
  const x = linear([0, many - 1], [0, WIDTH]);
  const points = values.map((value, place) => `${x(many - values.length + place).toFixed(1)},${y(value).toFixed(1)}`);
  return s(
    "svg",
    {
      class: "spark",
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      width: "100%",
      height: HEIGHT,
      preserveAspectRatio: "none",
      "aria-hidden": "true",
    },
    s("polyline", {
      points: points.join(" "),
      fill: "none",
      stroke: "currentColor",
      "stroke-width": 1.5,
      "vector-effect": "non-scaling-stroke",
      opacity: 0.7,
    }),
  );
}
