// One session: its threads, from the prompt over each answer and its tools to the next.

import { get } from "../api.js";
import { h } from "../dom.js";
import { compact, money, named, plural, seconds, timeOfDay, words } from "../format.js";
import { head, mark, outcome, panel, time } from "../parts/page.js";
import { inputOf } from "../parts/rows.js";
import { link } from "../router.js";
import { figures } from "./sessions.js";

export async function render({ parts: [, name], parameters, signal }) {
  const session = await get(`sessions/${encodeURIComponent(name)}`, { actor: parameters.get("actor") }, signal);
  return [
    head("Session", h("span", { class: "mono" }, named(session.session))),
    h(
      "div",
      { class: "stack" },
      panel("In all", {}, h("div", { class: "session-row" }, h("div", { class: "lines" }, figures(session)))),
      session.threads.map((thread, place) => threadPanel(thread, place + 1)),
    ),
  ];
}

function threadPanel({ prompt, interceptions }, number) {
  const cost = interceptions.some((row) => row.cost_nanodollars !== null)
    ? interceptions.reduce((sum, row) => sum + (row.cost_nanodollars ?? 0), 0)
    : null;
  return panel(
    `Thread ${number}`,
    { lead: `${plural(interceptions.length, "interception")}, ${money(cost)}` },
    h(
      "ol",
      { class: "thread" },
      h(
        "li",
        {},
        h("span", { class: "node", "aria-hidden": "true" }),
        prompt ? h("p", { class: "prompt" }, prompt) : h("p", { class: "note" }, "The prompt is not kept."),
      ),
      interceptions.map(step),
    ),
  );
}

function step(row) {
  return h(
    "li",
    {},
    mark(row.termination),
    h(
      "div",
      { class: "step" },
      h("a", { href: link(["interceptions", row.id]) }, named(row.model)),
      row.termination !== "completed" && outcome(row.termination, row.cause),
      row.termination === "completed" && h("span", { class: "quiet-text" }, "completed"),
      h("span", { class: "figures" }, [
        time(row.started_at, timeOfDay),
        ` · ${seconds(row.duration)} · ${compact(inputOf(row))} in, ${compact(row.output_tokens)} out · ${money(row.cost_nanodollars)}`,
        row.stop_reason && ` · ${words(row.stop_reason)}`,
      ]),
    ),
    row.tools.length > 0 &&
      h(
        "ul",
        { class: "tools", "aria-label": "Tools called" },
        row.tools.map((tool) => h("li", {}, named(tool))),
      ),
  );
}
