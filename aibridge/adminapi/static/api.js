// The one door to the gateway's admin API.

const ROOT = new URL("../api/v1/", document.baseURI);

/** An answer that is no success, in the words of its `application/problem+json`. */
class Problem extends Error {
  constructor(status, title, detail) {
    super(detail || title);
    this.status = status;
    this.title = title;
  }
}

/** Ask for JSON. Parameters that are empty are not sent. Throws `Problem`. */
export async function get(path, parameters, signal) {
  return (await ask(address(path, parameters), { signal })).json();
}

/** Trade an admin key for a session cookie. Throws `Problem`, with status 401 where the key is wrong. */
export async function login(key) {
  return send("login", { key });
}

export async function logout() {
  return send("logout", {});
}

async function send(path, body) {
  const headers = { "content-type": "application/json", "x-aibridge-csrf": "1" };
  return ask(address(path), { method: "POST", headers, body: JSON.stringify(body) });
}

/** The address of a question, for links that download. */
export function address(path, parameters) {
  const url = new URL(path, ROOT);
  for (const [name, value] of Object.entries(parameters ?? {})) {
    if (value !== undefined && value !== null && value !== "") url.searchParams.set(name, value);
  }
  return url;
}

async function ask(url, options) {
  let answer;
  try {
    answer = await fetch(url, { credentials: "same-origin", cache: "no-store", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "No answer", "The gateway's admin port does not answer.");
  }
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  throw new Problem(answer.status, told.title ?? `Status ${answer.status}`, told.detail);
}

const AGAIN = 3000;

/**
 * Listen to what happens, until `signal` aborts.
 *
 * `on.stats`, `on.ended`, `on.skipped` and `on.problem` get what the events hold; `on.state` is told whether the line is up.
 * The browser connects again by itself after a cut, but not after a refusal: then we do, a little later. A page that
 * nobody sees lets go of its line: a browser has six to one host for all its tabs, and a seventh would wait for ever.
 */
export function listen(on, signal) {
  let source;
  let timer;
  const told = (call) => (event) => call(JSON.parse(event.data));
  const open = () => {
    source = new EventSource(address("live"));
    source.addEventListener("open", () => on.state(true));
    source.addEventListener("stats", told(on.stats));
    source.addEventListener("problem", told(on.problem));
    source.addEventListener(
      "ended",
      told((row) => ("skipped" in row ? on.skipped(row.skipped) : on.ended(row))),
    );
    source.addEventListener("error", () => {
      on.state(false);
      if (source.readyState === EventSource.CLOSED) timer = setTimeout(open, AGAIN);
    });
  };
  const close = () => {
    clearTimeout(timer);
    source?.close();
    source = null;
  };
  const look = () => {
    close();
    if (!document.hidden) open();
  };
  look();
  document.addEventListener("visibilitychange", look, { signal });
  signal.addEventListener("abort", close);
}
