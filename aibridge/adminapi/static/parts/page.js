// What pages are made of: heads, panels, tiles, outcomes, facts.

import { h, s } from "../dom.js";
import { fullTime, moment, utc, words } from "../format.js";
import { kindOf, SHAPES } from "../outcomes.js";

/** The head of a page; what stands at its right end is `aside`. */
export function head(title, lead, ...aside) {
  return h("div", { class: "head" }, h("div", {}, h("h1", { tabindex: -1 }, title), lead && h("p", {}, lead)), aside);
}

/** A part of a page under a heading. */
export function panel(title, { lead, aside, ...properties }, ...children) {
  const top = h("header", {}, h("h2", {}, title), lead && h("p", {}, lead), aside);
  return h("section", { class: "panel", "aria-label": title, ...properties }, top, children);
}

export function empty(text, ...more) {
  return h("p", { class: "empty" }, text, more);
}

/** An error, and a way to go on. */
export function trouble(error, again) {
  return h(
    "section",
    { class: "panel problem", role: "alert" },
    h("h2", {}, error.title ?? "Something went wrong"),
    h("p", {}, error.message),
    again && h("p", { class: "pager" }, h("button", { type: "button", onclick: again }, "Try again")),
  );
}

/** Numbers in a row: `[name, value, more]`. */
export function tiles(label, rows) {
  return h(
    "dl",
    { class: "tiles", "aria-label": label },
    rows.map(([name, value, more]) =>
      h("div", { class: "tile" }, h("dt", {}, name), h("dd", {}, value, more && h("div", { class: "more" }, more))),
    ),
  );
}

/** The shape of a termination. */
export function mark(termination) {
  const kind = kindOf(termination);
  return s(
    "svg",
    { class: `mark ${kind}`, viewBox: "0 0 12 12", "aria-hidden": "true" },
    s("path", { d: SHAPES[kind] }),
  );
}

/** How it ended: shape and word; with its cause where that says more. */
export function outcome(termination, cause) {
  const more = cause && cause !== "clean" && h("span", { class: "cause" }, words(cause));
  return h("span", { class: "outcome" }, mark(termination), h("span", {}, words(kindOf(termination))), more);
}

/** A moment as `format` tells it; in full, and as UTC, when pointed at. */
export function time(epoch, format = moment) {
  if (epoch === null || epoch === undefined) return "–";
  return h("time", { datetime: utc(epoch), title: `${fullTime(epoch)} (${utc(epoch)})` }, format(epoch));
}

/** Names and values; those without a value are left out. */
export function facts(rows) {
  return h(
    "dl",
    { class: "facts" },
    rows.filter(([, value]) => value).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]),
  );
}

/** A list of what a plot's colours mean. `items` are `{kind, label, value, target}`; outcomes come with their shape. */
export function legend(items) {
  return h(
    "ul",
    { class: "legend" },
    items.map(({ kind, label, value, target }) => {
      const sign = SHAPES[kind] ? mark(kind) : h("span", { class: `swatch ${kind}`, "aria-hidden": "true" });
      const inside = [sign, label, value !== undefined && h("b", {}, value)];
      return h("li", {}, target ? h("a", { href: target }, inside) : inside);
    }),
  );
}

/** One of several links; the current one is marked. `items` are `[label, target, current]`. */
export function choice(label, items) {
  return h(
    "nav",
    { class: "choice", "aria-label": label },
    items.map(([text, target, current]) => h("a", { href: target, "aria-current": current ? "true" : null }, text)),
  );
}
