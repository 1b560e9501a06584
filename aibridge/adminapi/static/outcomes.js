// The four terminations and their causes: words, shapes, what each means. `docs/outcomes.md` has it case by case.

/** In the order in which they are drawn, from the ground up. */
export const TERMINATIONS = ["completed", "upstream_error", "client_gone", "gateway_error"];

export const RUNNING = "running";

/** Shapes on a field of 12 by 12. */
export const SHAPES = {
  completed: "M6 1a5 5 0 1 1 0 10a5 5 0 1 1 0-10z",
  upstream_error: "M6 .8 11.6 11H.4z",
  client_gone: "M6 .2 11.8 6 6 11.8.2 6z",
  gateway_error: "M1.2 1.2h9.6v9.6H1.2z",
  running: "M6 2a4 4 0 1 1 0 8a4 4 0 1 1 0-8z",
};

const UPSTREAM = "upstream_error";
const GONE = "client_gone";
const OURS = "gateway_error";
const ERROR_EVENT = "What came whole, then an error event of its API.";
const NOTHING = "Nothing more: it was not there.";

/**
 * By cause: its termination; what happened, as a sentence; what the client got; whether it counts against the
 * upstream's health ("yes", "no", or "it depends").
 */
export const CAUSES = {
  clean: [
    "completed",
    "The upstream said its last word, and the client’s socket took it.",
    "Everything, byte for byte.",
    "no",
  ],
  truncated: [UPSTREAM, "The upstream ended its answer in good order, but before its last word.", ERROR_EVENT, "yes"],
  incomplete_body: [UPSTREAM, "The upstream’s connection ended inside the answer.", ERROR_EVENT, "yes"],
  truncated_frame: [UPSTREAM, "The upstream’s answer ended inside a frame.", ERROR_EVENT, "yes"],
  corrupt_frame: [
    UPSTREAM,
    "A frame of the upstream was broken, or over our limit.",
    "What came before the frame, then an error event; nothing of the frame.",
    "yes",
  ],
  corrupt_payload: [
    UPSTREAM,
    "The upstream sent a payload that is not what its API promises.",
    "What came before, then an error event; of an answer that is not streamed, the body as it came.",
    "yes",
  ],
  exception_frame: [
    UPSTREAM,
    "AWS ended the stream with an exception.",
    "An error event with AWS’s words.",
    "yes, but for validationException",
  ],
  error_frame: [UPSTREAM, "AWS ended the stream with an error frame.", "An error event with AWS’s words.", "yes"],
  error_event: [UPSTREAM, "The upstream told an error inside its answer.", "That event, byte for byte.", "yes"],
  connection_reset: [
    UPSTREAM,
    "The upstream cut the connection before its last word.",
    "An error event; 502 where nothing was sent yet.",
    "yes",
  ],
  idle_timeout: [
    UPSTREAM,
    "The upstream fell silent for longer than the idle deadline.",
    "An error event; 504 where nothing was sent yet.",
    "yes",
  ],
  connect_failed: [UPSTREAM, "No connection to the upstream could be made.", "502; 504 where time ran out.", "yes"],
  response_timeout: [UPSTREAM, "The upstream sent no response head in time.", "504.", "yes"],
  http_status: [
    UPSTREAM,
    "The upstream refused the request with an error status.",
    "That status and its body, in the shape of its API.",
    "yes for 408, 429 and 5xx; no for the others",
  ],
  unexpected_response: [
    UPSTREAM,
    "The upstream answered with a content type that this answer cannot have.",
    "502.",
    "yes",
  ],
  protocol_error: [
    UPSTREAM,
    "The upstream’s HTTP cannot be parsed, or its answer is over our limit.",
    "502, or an error event once it streamed.",
    "yes",
  ],
  circuit_open: [
    UPSTREAM,
    "The circuit to this upstream is open: it was not asked.",
    "503 with retry-after.",
    "no: it was not asked",
  ],
  keys_exhausted: [
    UPSTREAM,
    "Every key of the pool is cooling down or was refused.",
    "429 with retry-after; 502 where all were refused.",
    "no",
  ],
  before_response: [GONE, "The client left before the answer began.", NOTHING, "no"],
  disconnected: [GONE, "The client left in the middle of the answer.", "What was sent until then.", "no"],
  stalled: [GONE, "The client stopped reading, for longer than we wait.", "What its socket took until then.", "no"],
  draining: [
    OURS,
    "The gateway was shutting down, and its drain deadline came first.",
    "An error event; before the head 503 with retry-after.",
    "no",
  ],
  internal: [OURS, "A bug of the gateway.", "An error event or 500, with the interception’s id.", "no"],
  recording_failed: [
    OURS,
    "The beginning could not be written to the journal, so the upstream was not asked.",
    "503.",
    "no",
  ],
  tool_loop_limit: [
    OURS,
    "The model called tools of ours in more turns than are allowed.",
    "An error event; before the head 500.",
    "no",
  ],
  budget_spent: [
    OURS,
    "A budget that ends running streams was spent, by this one or others.",
    "An error event; before the head the status of a spent budget.",
    "no",
  ],
  crashed: [
    OURS,
    "The gateway’s process was killed while this ran; the next one found it.",
    "Nothing more: its connection was cut.",
    "no",
  ],
};

/** The word that an outcome's colour and shape go by. */
export function kindOf(termination) {
  return SHAPES[termination] ? termination : RUNNING;
}

export function causesOf(termination) {
  return Object.keys(CAUSES).filter((cause) => CAUSES[cause][0] === termination);
}
