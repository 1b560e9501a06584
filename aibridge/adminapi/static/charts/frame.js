// What all plots have: they are drawn to the width that they have, and are walked with the arrow keys.

import { h, s } from "../dom.js";
import { axisTime, moments } from "./scale.js";

/**
 * A plot that is drawn anew when its width changes.
 *
 * `draw(width)` returns an SVG element. `label` says in words what the plot shows, for people who do not see it.
 */
export function plot(label, draw) {
  const box = h("div", { class: "plot" });
  let drawn = 0;
  const paint = (width) => {
    if (width < 40) return;
    drawn = width;
    const svg = draw(width);
    if (!svg.hasAttribute("role")) {
      svg.setAttribute("role", "img");
      svg.setAttribute("aria-label", label);
    }
    box.replaceChildren(svg);
  };
  new ResizeObserver(([entry]) => {
    const width = Math.floor(entry.contentRect.width);
    if (width !== drawn) paint(width);
  }).observe(box);
  box.repaint = () => paint(drawn);
  return box;
}

export function canvas(width, height, ...children) {
  return s("svg", { viewBox: `0 0 ${width} ${height}`, height, "font-size": 11 }, children);
}

/** Lines across, with what they stand for at the left. */
export function across(values, scale, left, right, format) {
  return values.map((value) => [
    s("line", { class: value === 0 ? "axis" : "grid", x1: left, x2: right, y1: scale(value), y2: scale(value) }),
    s("text", { x: left - 6, y: scale(value) + 4, "text-anchor": "end" }, format(value)),
  ]);
}

/** Times under a plot. */
export function timeAxis(since, until, scale, bottom, width) {
  const { step, found } = moments(since, until, Math.max(2, Math.floor(width / 64)));
  return found.map((at) => [
    s("line", { class: "axis", x1: scale(at), x2: scale(at), y1: bottom, y2: bottom + 4 }),
    s("text", { x: scale(at), y: bottom + 16, "text-anchor": "middle" }, axisTime(at, step)),
  ]);
}

/**
 * Make a plot something to walk through: with a pointer, or with the arrow keys, Home, End, Enter.
 *
 * `many` places; `show(place)` tells one, null none; `pick(place)` is what Enter or a click does; `at(x)` finds the
 * place under a pointer.
 */
export function walkable(svg, label, { many, at, show, pick }) {
  let place = null;
  const move = (next) => {
    place = next;
    show(place);
  };
  const KEYS = {
    ArrowLeft: () => Math.max(0, (place ?? many) - 1),
    ArrowRight: () => Math.min(many - 1, (place ?? -1) + 1),
    Home: () => 0,
    End: () => many - 1,
  };
  svg.setAttribute("tabindex", 0);
  svg.setAttribute("role", "group");
  svg.setAttribute("aria-roledescription", "plot");
  svg.setAttribute("aria-label", `${label} Arrow keys walk through it${pick ? ", Enter opens" : ""}.`);
  const under = (event) =>
    at(
      ((event.clientX - svg.getBoundingClientRect().left) / svg.getBoundingClientRect().width) *
        svg.viewBox.baseVal.width,
    );
  svg.addEventListener("keydown", (event) => {
    if (KEYS[event.key] && many) {
      event.preventDefault();
      move(KEYS[event.key]());
    } else if (event.key === "Enter" && place !== null && pick) pick(place);
    else if (event.key === "Escape") move(null);
  });
  svg.addEventListener("pointermove", (event) => move(under(event)));
  svg.addEventListener("pointerleave", () => move(null));
  svg.addEventListener("blur", () => move(null));
  if (pick) svg.addEventListener("click", (event) => under(event) !== null && pick(under(event), event.target));
}
