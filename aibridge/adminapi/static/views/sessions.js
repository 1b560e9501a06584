// Sessions, the latest first; each bead is one interception, each row of beads a thread.

import { get } from "../api.js";
import { announce, h } from "../dom.js";
import { compact, money, named, plural, seconds } from "../format.js";
import { TERMINATIONS } from "../outcomes.js";
import { empty, head, legend, mark, panel, time } from "../parts/page.js";
import { periodOf, picker } from "../parts/period.js";
import { inputOf } from "../parts/rows.js";
import { changed, link } from "../router.js";

const PAGE = 20;
const BEADS = 80;

export async function render({ parameters, signal }) {
  const period = periodOf(parameters);
  const cursor = parameters.get("cursor");
  const actor = parameters.get("actor");
  const { items, next } = await get("sessions", { since: period.since, cursor, actor, limit: PAGE }, signal);
  announce(`${plural(items.length, "session")} on this page.`);
  return [
    head(
      "Sessions",
      "Longer pieces of work: the client’s own session where it names one, else a thread of tool calls.",
      picker("sessions", parameters, period),
    ),
    h(
      "div",
      { class: "stack" },
      legend(TERMINATIONS.map((kind) => ({ kind, label: kind.replaceAll("_", " ") }))),
      items.length
        ? h("ul", { class: "sessions", "aria-label": "Sessions" }, items.map(row))
        : panel("Sessions", {}, empty("No session in this time.")),
      (next || cursor) &&
        h(
          "nav",
          { class: "pager", "aria-label": "Pages" },
          cursor && h("a", { class: "button", href: link("sessions", changed(parameters, {})) }, "Newest"),
          next &&
            h(
              "a",
              { class: "button", rel: "next", href: link("sessions", changed(parameters, { cursor: next })) },
              "Older",
            ),
        ),
    ),
  ];
}

function row(session) {
  const prompt = session.threads.map((thread) => thread.prompt).find(Boolean);
  return h(
    "li",
    { class: "panel session-row" },
    h(
      "h2",
      {},
      h(
        "a",
        { href: link(["sessions", session.session], { actor: session.actor }) },
        prompt ? shortened(prompt) : named(session.session),
      ),
    ),
    h("div", { class: "lines" }, figures(session)),
    h("div", { class: "beads", role: "img", "aria-label": beadsInWords(session) }, beads(session)),
  );
}

function shortened(text) {
  return text.length > 120 ? `${text.slice(0, 119)}…` : text;
}

/** What a session comes to, piece by piece. */
export function figures(session) {
  const lasted = session.ended_at === null ? null : session.ended_at - session.started_at;
  return [
    time(session.started_at),
    h("span", {}, named(session.actor)),
    h("span", {}, named(session.client)),
    h("span", {}, session.models.map(named).join(", ")),
    h("span", {}, `${plural(session.threads.length, "thread")}, ${plural(session.interceptions, "interception")}`),
    lasted !== null && h("span", {}, seconds(lasted)),
    h("span", {}, `${compact(inputOf(session))} in, ${compact(session.output_tokens)} out`),
    h("span", {}, money(session.cost_nanodollars), session.unpriced > 0 && ` and ${session.unpriced} unpriced`),
  ];
}

function beads({ threads, interceptions }) {
  const all = threads.flatMap(({ interceptions: rows }, place) => [
    place > 0 && h("span", { class: "thread-end" }),
    ...rows.map(({ termination }) => mark(termination)),
  ]);
  const shown = threads.reduce((sum, thread) => sum + thread.interceptions.length, 0);
  return all.length > BEADS || shown < interceptions
    ? [...all.slice(0, BEADS), h("span", { class: "note" }, "…")]
    : all;
}

function beadsInWords({ threads }) {
  const all = threads.flatMap(({ interceptions }) => interceptions);
  const failed = all.filter(({ termination }) => termination && termination !== "completed").length;
  return `${plural(all.length, "interception")}, ${failed} of them not completed`;
}
