// One interception: how it ended and why, its timeline, what it used, what is kept of it.

import { get } from "../api.js";
import { timeline } from "../charts/timeline.js";
import { h } from "../dom.js";
import { bytes, fullTime, named, seconds, utc, words } from "../format.js";
import { empty, facts, head, outcome, panel, time } from "../parts/page.js";
import { copyButton } from "../parts/copy.js";
import { causeOf } from "../parts/failing.js";
import { behind } from "../parts/table.js";
import { usagePanel } from "../parts/usage.js";
import { link } from "../router.js";
import { consequences, evidence, verdict } from "../story.js";

export async function render({ parts: [, id], signal }) {
  const record = await get(`interceptions/${encodeURIComponent(id)}`, {}, signal);
  return [
    head(`${named(record.model)} for ${named(record.actor_name || record.actor_id)}`, [
      time(record.started_at),
      " · ",
      h("span", { class: "mono" }, record.id),
      " ",
      copyButton(record.id, "the id"),
    ]),
    h(
      "div",
      { class: "stack" },
      verdictPanel(record),
      timelinePanel(record),
      h("div", { class: "pair" }, usagePanel(record), requestPanel(record)),
      contentPanel(record),
    ),
  ];
}

const SIGNS = { yes: ["✓", "Good"], no: ["✗", "Bad"], so: ["·", "Told"] };

function verdictPanel(record) {
  const after = consequences(record);
  return panel(
    "How it ended",
    { class: `panel verdict ${record.termination ?? "running"}` },
    h("p", { class: "lead" }, outcome(record.termination, causeOf(record)), verdict(record)),
    h(
      "ul",
      { class: "evidence", "aria-label": "Evidence" },
      evidence(record).map(([sign, text]) =>
        h(
          "li",
          { class: sign },
          h(
            "span",
            { class: "sign" },
            h("span", { "aria-hidden": "true" }, SIGNS[sign][0]),
            h("span", { class: "quiet-text" }, `${SIGNS[sign][1]}: `),
          ),
          h("span", {}, text),
        ),
      ),
    ),
    after.length > 0 &&
      h(
        "dl",
        { class: "after" },
        after.map(([name, text]) => h("div", {}, h("dt", {}, name), h("dd", {}, text))),
      ),
  );
}

function timelinePanel(record) {
  const rows = timelineRows(record);
  const told = rows
    .map(
      ({ name, from, to }) => `${name}: ${to === null ? `at ${seconds(from)}` : `${seconds(from)} to ${seconds(to)}`}`,
    )
    .join("; ");
  return panel(
    "Timeline",
    { lead: "Pale: waiting for the first event. The line: it came." },
    timeline(`Timeline. ${told}.`, rows),
    behind(
      "the timeline as a table",
      [
        { name: "What", wide: true, of: (row) => row.name },
        { name: "Begins", number: true, of: (row) => seconds(row.from) },
        { name: "First event", number: true, of: (row) => seconds(row.first) },
        { name: "Ends", number: true, of: (row) => seconds(row.to) },
        { name: "Outcome", of: (row) => (row.termination ? outcome(row.termination, row.cause) : "") },
        { name: "More", wide: true, of: (row) => row.more ?? "" },
      ],
      rows,
    ),
  );
}

/**
 * Seconds since the request's acceptance, which first events are counted from in attempts too. Times of day have no
 * more than the clock's exactness: what would begin before the whole begins with it.
 */
function timelineRows(record) {
  const at = (moment) => Math.max(0, moment - record.started_at);
  const end = record.duration ?? Math.max(0, Date.now() / 1000 - record.started_at);
  const whole = {
    name: "Interception",
    from: 0,
    to: end,
    first: record.time_to_first_event,
    termination: record.termination ?? "running",
    cause: record.cause,
    more: record.termination ? null : "still running",
  };
  const attempts = record.attempts.map((attempt) => {
    const from = at(attempt.started_at);
    return {
      name: `Attempt ${attempt.number}`,
      more: [attempt.provider, attempt.origin, attempt.http_status].filter(Boolean).join(", "),
      from,
      to: from + attempt.duration,
      first: attempt.time_to_first_event,
      termination: attempt.termination,
      cause: attempt.cause,
    };
  });
  const tools = record.tools.map(({ tool, server, latency, created_at: created, error }) => ({
    // The gateway tells of a tool that it ran when that is done; of a client's, when the model has called it.
    name: tool,
    more: server ? `run by the gateway on ${server}${error ? `: ${error}` : ""}` : "called; the client runs it",
    from: latency === null ? at(created) : at(created - latency),
    to: latency === null ? null : at(created),
    kind: "series-3",
  }));
  return [whole, ...attempts, ...tools];
}

function requestPanel(record) {
  const session = record.session_id ?? record.thread_root_id;
  const filter = (name, value) =>
    value && h("a", { href: link("interceptions", { [name]: value, period: "30d" }) }, value);
  return panel(
    "Request",
    {},
    facts([
      ["Actor", filter("actor", record.actor_id)],
      ["Client", filter("client", record.client)],
      ["User agent", record.user_agent],
      ["Provider", filter("provider", record.provider)],
      ["Answered by", record.answered_by !== record.provider && record.answered_by],
      ["Model asked for", filter("model", record.model)],
      ["Model sent", record.upstream_model],
      ["Model that answered", record.response_model],
      ["Request", `${record.method} ${record.request_path}, ${bytes(record.request_bytes)}`],
      ["API", `${record.dialect}, ${record.streaming ? "streamed" : "not streamed"}`],
      [
        "Credential",
        `${record.credential_kind === "byok" ? "the client’s own" : "the gateway’s"} ${record.credential_hint ?? ""}`,
      ],
      ["Session", session && h("a", { href: link(["sessions", session], { actor: record.actor_id }) }, session)],
      [
        "Follows",
        record.thread_parent_id &&
          h("a", { class: "mono", href: link(["interceptions", record.thread_parent_id]) }, record.thread_parent_id),
      ],
      ["Began", `${fullTime(record.started_at)} (${utc(record.started_at)})`],
      ["Ended", record.ended_at && fullTime(record.ended_at)],
      [
        "Upstream’s request id",
        record.upstream_request_id && [
          h("code", {}, record.upstream_request_id),
          " ",
          copyButton(record.upstream_request_id, "the upstream’s request id"),
        ],
      ],
      ["Message id", record.message_id && h("code", {}, record.message_id)],
      ["Trace", record.traceparent && h("code", {}, record.traceparent)],
    ]),
  );
}

function contentPanel({ prompts, thoughts, tools }) {
  const pieces = [
    ...prompts.map(({ prompt }) => ["Prompt", null, prompt]),
    ...thoughts.map(({ source, thought }) => ["Thought", words(source), thought]),
    ...tools.filter((tool) => tool.arguments !== null).map((tool) => ["Tool call", tool.tool, tool.arguments]),
  ];
  return panel(
    "Content",
    { lead: "What the recording policy lets be kept of prompts, thoughts and arguments of tools." },
    pieces.length
      ? h(
          "div",
          { class: "stack" },
          pieces.map(([kind, more, text]) =>
            h(
              "section",
              {},
              h("h3", {}, kind, more && h("span", { class: "note" }, ` ${more}`)),
              h("div", { class: "kept", tabindex: 0, role: "group", "aria-label": kind }, h("pre", {}, text)),
            ),
          ),
        )
      : empty("Nothing is kept of it. ", h("code", {}, "records.content"), " in the configuration says what is."),
  );
}
