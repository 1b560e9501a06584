// Why an interception ended as it did, in words, from the evidence that its record holds.

import { bytes, fullTime, plural, seconds, words } from "./format.js";
import { CAUSES } from "./outcomes.js";

/** One sentence that says what happened. */
export function verdict(record) {
  if (!record.termination) return "This interception still runs, or its end is not in the store yet.";
  return CAUSES[record.cause]?.[1] ?? `It ended as ${words(record.cause)}.`;
}

/**
 * What was seen, in the order in which it happens: pairs of a sign and a sentence. The sign is "yes" for what speaks
 * for a good end, "no" for what speaks against it, "so" for what only tells.
 */
export function evidence(record) {
  return [
    asked(record),
    ...earlier(record),
    head(record),
    firstEvent(record),
    relayed(record),
    lastWord(record),
    said(record),
    odd(record),
    counted(record),
  ].filter(Boolean);
}

function asked(record) {
  // Of a gateway that was killed the last attempt is not told.
  if (record.termination && record.cause !== "crashed" && !record.attempts.length) return ["no", "The upstream was not contacted."];
  const where =
    record.answered_by && record.answered_by !== record.provider
      ? `${record.provider} was asked first, and ${record.answered_by} answered`
      : `${record.provider} was asked for ${record.upstream_model || record.model || "an answer"}`;
  return ["so", `${where}, at ${fullTime(record.started_at)}.`];
}

function earlier({ attempts }) {
  return attempts
    .slice(0, -1)
    .map(({ number, termination, cause, http_status: status, duration }) => [
      termination === "completed" ? "so" : "no",
      termination === "completed"
        ? `Attempt ${number} ended well after ${seconds(duration)}; a further turn followed.`
        : `Attempt ${number} ended as ${words(cause)}${status && status >= 300 ? ` ${status}` : ""} after ${seconds(duration)}; another was made.`,
    ]);
}

function head({ http_status: status, termination }) {
  if (status) return [status < 300 ? "yes" : "no", `A response head came, with status ${status}.`];
  return termination && ["no", "No response head came."];
}

function firstEvent({ time_to_first_event: first, streaming, http_status: status }) {
  if (first !== null) return ["yes", `Its first event came after ${seconds(first)}.`];
  return streaming && status && status < 300 ? ["no", "No event came."] : null;
}

function relayed({ events, bytes_in: read, bytes_out: sent, streaming }) {
  if (!read && !sent) return null;
  const what = streaming ? `${plural(events ?? 0, "event")}, ` : "";
  return ["so", `${what}${bytes(read)} came from the upstream, and ${bytes(sent)} went to the client.`];
}

function lastWord(record) {
  const { terminal_event_seen: seen, last_event: last, cause, streaming, http_status: status } = record;
  const name = last ? ` (${last})` : "";
  if (seen) {
    const late = cause === "clean" ? "" : " The client’s socket had not taken it.";
    return [cause === "clean" ? "yes" : "no", `The upstream’s last word${streaming ? name : ""} was seen.${late}`];
  }
  if (!status || status >= 300 || seen === null || !record.termination) return null;
  return ["no", `The upstream’s last word was not seen${last ? `; the last event was ${last}` : ""}.`];
}

function said({ error, termination }) {
  return error && termination !== "completed" ? ["so", `The error on record: “${error}”`] : null;
}

const NOTES = {
  missing_done: "The answer was whole, but [DONE] did not follow.",
};

function odd({ note }) {
  return note ? ["so", NOTES[note] ?? `A note was made: ${note}.`] : null;
}

const SOURCES = {
  provider_final: ["yes", "The token counts are the provider’s final ones."],
  provider_partial: ["no", "The token counts are partial: what the provider had told by then."],
  none: ["so", "The provider told no token counts."],
};

function counted({ usage_source: source, stop_reason: reason }) {
  const told = SOURCES[source];
  if (!told) return null;
  return [told[0], reason ? `The model stopped by its own word: ${words(reason)}. ${told[1]}` : told[1]];
}

/** What followed from it: pairs of a name and a sentence. */
export function consequences({ cause, termination }) {
  if (!termination || !CAUSES[cause]) return [];
  const [, , client, health] = CAUSES[cause];
  return [
    ["The client got", client],
    ["Counts against the upstream’s health", `${health[0].toUpperCase()}${health.slice(1)}.`],
  ];
}

const UNPRICED = {
  no_price_list: "there is no price list for this provider",
  unknown_model: "the price list does not know the model",
  before_first_price: "it is older than the list’s first price",
  unknown_service_tier: "the price list does not know the service tier",
  unknown_region: "the price list does not know the region",
  no_rate: "one of the counts has no rate",
  no_counts: "no priced count was told",
  too_many_tokens: "the counts are beyond what can be",
};

/** Why tokens have no cost. */
export function unpriced(reason) {
  return UNPRICED[reason] ?? (reason ? words(reason) : "nobody has asked for the price yet");
}
