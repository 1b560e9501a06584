// Filters of the records. The address holds them; the gateway's facets fill the choices.

import { h } from "../dom.js";
import { named, words } from "../format.js";
import { causesOf, RUNNING, TERMINATIONS } from "../outcomes.js";
import { changed, go, link } from "../router.js";

/** By its name in the address and in the API: its label, and the facet that it is chosen from. */
const CHOSEN = [
  ["termination", "Outcome"],
  ["cause", "Cause"],
  ["model", "Model", "models"],
  ["provider", "Provider", "providers"],
  ["actor", "Actor", "actors"],
  ["client", "Client", "clients"],
];
const NAMES = [...CHOSEN.map(([name]) => name), "session"];

/** What the API has to be asked for. */
export function filtersOf(parameters) {
  const found = {};
  for (const name of NAMES) if (parameters.get(name)) found[name] = parameters.get(name);
  if (found.termination === RUNNING) {
    delete found.termination;
    found.running = "true";
  }
  return found;
}

/**
 * A form of all filters, whose change goes to a new address. Those that hold are listed below it, to be taken off.
 *
 * A choice made with the pointer holds at once. With keys one passes many before the one that is meant: `Apply` ends it.
 */
export function filterForm(path, parameters, facets) {
  let keyed = false;
  const form = h("form", {
    class: "filters",
    role: "search",
    "aria-label": "Filter interceptions",
    onkeydown: () => (keyed = true),
    onpointerdown: () => (keyed = false),
    onsubmit: (event) => {
      event.preventDefault();
      apply();
    },
  });
  const apply = () => {
    const said = Object.fromEntries(new FormData(form));
    // A cause of another termination would find nothing.
    if (said.cause && said.termination && !causesOf(said.termination).includes(said.cause)) said.cause = "";
    go(link(path, changed(parameters, said)));
  };
  form.append(
    ...CHOSEN.map(([name, label, facet]) =>
      h(
        "label",
        {},
        label,
        h(
          "select",
          { name, onchange: () => keyed || apply(), "data-keep": name },
          options(name, facet, parameters, facets),
        ),
      ),
    ),
    h("button", { type: "submit", "data-keep": "apply" }, "Apply"),
  );
  return h("div", {}, form, chips(path, parameters));
}

function options(name, facet, parameters, facets) {
  const current = parameters.get(name) ?? "";
  const option = (value, text) => h("option", { value, selected: value === current }, text);
  const any = option("", "Any");
  if (name === "termination") return [any, [...TERMINATIONS, RUNNING].map((value) => option(value, words(value)))];
  if (name === "cause") {
    const of = parameters.get("termination");
    return [
      any,
      TERMINATIONS.filter((one) => !of || one === of).map((one) =>
        h(
          "optgroup",
          { label: words(one) },
          causesOf(one).map((value) => option(value, words(value))),
        ),
      ),
    ];
  }
  const values = (facets[facet] ?? []).filter((value) => value !== "");
  // One that is asked for by a link, and is not among the most frequent.
  if (current && !values.includes(current)) values.unshift(current);
  return [any, values.map((value) => option(value, named(value)))];
}

/** The filters that hold, each a link to the same without it. */
export function chips(path, parameters) {
  const held = NAMES.filter((name) => parameters.get(name));
  if (!held.length) return null;
  const without = (names) => link(path, changed(parameters, Object.fromEntries(names.map((name) => [name, ""]))));
  return h(
    "ul",
    { class: "chips", "aria-label": "Filters that hold" },
    held.map((name) => {
      const value = (name === "termination" || name === "cause" ? words : named)(parameters.get(name));
      return h(
        "li",
        {},
        h(
          "a",
          { class: "chip", href: without([name]), "aria-label": `Remove filter ${name}: ${value}` },
          `${name}: ${value}`,
          h("span", { "aria-hidden": "true" }, "×"),
        ),
      );
    }),
    held.length > 1 && h("li", {}, h("a", { class: "chip", href: without(NAMES) }, "Remove all")),
  );
}
