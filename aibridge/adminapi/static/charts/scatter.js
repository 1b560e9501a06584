// What has ended in the last minutes: when, after how long, and how.

import { s } from "../dom.js";
import { roundSeconds, seconds } from "../format.js";
import { kindOf, SHAPES } from "../outcomes.js";
import { across, canvas, plot, timeAxis } from "./frame.js";
import { decades, linear, logarithmic } from "./scale.js";

const LEFT = 52;
const TOP = 10;
const BOTTOM = 24;
const HEIGHT = 260;
const SHORTEST = 0.001;

/**
 * A plot whose `points()` are `{ended_at, duration, termination}`, for the `span` seconds before `now()`; `repaint` draws
 * what they are by then.
 */
export function endings(label, points, span, now) {
  return plot(label, (width) => {
    const until = now();
    const shown = points().filter((point) => point.ended_at > until - span);
    const lengths = shown.map((point) => Math.max(point.duration, SHORTEST));
    const levels = decades(Math.min(0.1, ...lengths), Math.max(10, ...lengths));
    const x = linear([until - span, until], [LEFT, width - 10]);
    const y = logarithmic([levels[0], levels.at(-1)], [HEIGHT - BOTTOM, TOP]);
    // Failures are drawn last: they are few, and what people look for.
    const order = shown.toSorted(
      (one, other) => (one.termination === "completed" ? 0 : 1) - (other.termination === "completed" ? 0 : 1),
    );
    return canvas(
      width,
      HEIGHT,
      across(levels, y, LEFT, width - 4, roundSeconds),
      order.map((point) => shape(point, x, y)),
      timeAxis(until - span, until, x, HEIGHT - BOTTOM, width - LEFT),
    );
  });
}

function shape({ ended_at: at, duration, termination, cause }, x, y) {
  const kind = kindOf(termination);
  const size = kind === "completed" ? 0.6 : 0.95;
  const place = `translate(${(x(at) - 6 * size).toFixed(1)} ${(y(Math.max(duration, SHORTEST)) - 6 * size).toFixed(1)}) scale(${size})`;
  return s(
    "path",
    { class: `fill halo ${kind}`, d: SHAPES[kind], transform: place },
    s("title", {}, `${kind} / ${cause}, ${seconds(duration)}`),
  );
}
