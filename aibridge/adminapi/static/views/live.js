// What happens now, told by server-sent events.

import { get, listen } from "../api.js";
import { endings } from "../charts/scatter.js";
import { spark } from "../charts/spark.js";
import { announce, h } from "../dom.js";
import { compact, count, percent } from "../format.js";
import { RUNNING, TERMINATIONS } from "../outcomes.js";
import { alertList, alerts } from "../parts/alerts.js";
import { failingTable } from "../parts/failing.js";
import { empty, head, legend, panel } from "../parts/page.js";
import { interceptionTable } from "../parts/rows.js";
import { link } from "../router.js";

const SPAN = 180;
const KEPT = 1500;
const SHOWN = 25;
const LINE = 60;
/** Of the numbers, which come each second, every which asks for circuits and keys too. */
const LOOK_EVERY = 10;
/** Numbers that come without another word of it until a store that was away counts as back. */
const TOLD_FOR = 3;

const GAUGES = [
  ["inflight", h("a", { href: link("interceptions", { termination: RUNNING }) }, "Streams now")],
  ["events_per_second", "Events a second"],
  ["started_per_second", "Begun a second"],
  ["ended_per_second", "Ended a second"],
];

export async function render({ signal }) {
  const ended = await latest(signal);
  const seen = new Set(ended.map((row) => row.id));
  let ahead = 0; // the gateway's clock before ours, in seconds
  const now = () => Date.now() / 1000 + ahead;
  let paused = false;
  let skipped = 0;
  let ticks = 0;
  let unread = -Infinity; // when what has ended could not be read last

  const line = h(
    "span",
    { class: "live-head", role: "status" },
    h("span", { class: "pulse", "aria-hidden": "true" }),
    h("span", {}, "Connecting"),
  );
  const gauges = GAUGES.map(([name, label]) => gauge(name, label));
  const signs = h("div", {});
  const plot = endings(
    `Interceptions that ended in the last ${SPAN / 60} minutes, by duration; the table below lists the latest.`,
    () => ended,
    SPAN,
    now,
  );
  const warned = h("div", { hidden: true });
  const failing = h("div", {});
  const feed = h("div", { class: "feed" });
  const pause = h(
    "button",
    { type: "button", class: "small", "aria-pressed": "false", onclick: () => hold(!paused) },
    "Pause",
  );

  function hold(on) {
    paused = on;
    pause.setAttribute("aria-pressed", String(on));
    pause.textContent = on ? "Paused" : "Pause";
    if (!on) paint();
  }

  /** Draw anew; a link that was in focus stays so, if it is still there. */
  function paint() {
    const active = document.activeElement;
    const painted = [signs, failing, feed];
    const held = painted.find((part) => part.contains(active));
    const had = held && active.getAttribute("href");
    const since = now() - SPAN;
    const recent = ended.filter((row) => row.ended_at > since);
    signs.replaceChildren(
      legend(
        TERMINATIONS.map((kind) => {
          const many = recent.filter((row) => row.termination === kind).length;
          return {
            kind,
            label: kind.replaceAll("_", " "),
            value: `${count(many)} (${percent(many, recent.length)})`,
            target: link("interceptions", { termination: kind, period: "15m" }),
          };
        }),
      ),
    );
    plot.repaint();
    failing.replaceChildren(failingTable(recent));
    feed.replaceChildren(
      ended.length
        ? interceptionTable("The latest first", ended.slice(0, SHOWN))
        : empty("Nothing has ended yet. Send a request to the gateway, and it shows here."),
    );
    if (had)
      [...held.querySelectorAll("a")].find((one) => one.getAttribute("href") === had)?.focus();
  }

  /** Take what ended while there was no line. */
  async function catchUp() {
    for (const row of await latest(signal).catch(() => [])) add(row);
    ended.sort((one, other) => other.ended_at - one.ended_at);
  }

  function add(row) {
    if (seen.has(row.id)) return;
    seen.add(row.id);
    ended.unshift(row);
    for (const gone of ended.splice(KEPT)) seen.delete(gone.id);
  }

  let told = "";
  async function look() {
    const found = await get("providers", {}, signal).then(alerts, () => null); // the line tells that nobody answers
    const text = JSON.stringify(found);
    if (!found || text === told) return; // what is in focus stays so
    told = text;
    warned.hidden = !found.length;
    warned.replaceChildren(alertList(found));
    if (found.length) announce(found.map((one) => one.text).join(" "));
  }

  const on = {
    state(up) {
      line.classList.toggle("on", up);
      line.lastChild.textContent = up ? "Live" : "Not connected; trying again";
      if (up) catchUp();
      if (!up) announce("The live connection is lost; trying again.");
    },
    stats(numbers) {
      ahead = numbers.at - Date.now() / 1000;
      for (const one of gauges) one.tell(numbers);
      if (ticks % LOOK_EVERY === 0) look();
      ticks += 1;
      if (ticks === unread + 1 + TOLD_FOR) {
        left.textContent = "";
        catchUp();
      }
      if (!paused) paint();
    },
    ended: add,
    skipped(many) {
      skipped += many;
      left.textContent = `${compact(skipped)} more ended than are shown one by one.`;
    },
    problem({ detail }) {
      unread = ticks;
      left.textContent = `What has ended cannot be read: ${detail}`;
    },
  };
  const left = h("p", { class: "note" });
  listen(on, signal);
  paint();

  return [
    head("Live", "Streams as they run, and how each one ends.", line),
    h(
      "div",
      { class: "stack" },
      h(
        "dl",
        { class: "tiles", "aria-label": "Now" },
        gauges.map((one) => one.element),
      ),
      warned,
      panel("What fails now", { lead: "The upstream’s faults and ours, of the last 3 minutes." }, failing),
      panel(
        "Endings of the last 3 minutes",
        { lead: "Each mark is one interception; the higher, the longer it took.", aside: signs },
        plot,
      ),
      panel("Just ended", { aside: h("div", { class: "aside" }, pause) }, feed, left),
    ),
  ];
}

/** What has ended before we came. Without records there is nothing, and the numbers are told all the same. */
async function latest(signal) {
  try {
    return (await get("interceptions", { limit: 200, running: "false" }, signal)).items;
  } catch (error) {
    if (error.status === 503) return [];
    throw error;
  }
}

function gauge(name, label) {
  const values = [];
  const number = h("span", {}, "–");
  const line = h("div", {}, spark([], LINE));
  const element = h("div", { class: "tile", hidden: true }, h("dt", {}, label), h("dd", {}, number, line));
  const tell = (numbers) => {
    if (numbers[name] === undefined) return;
    element.hidden = false;
    values.push(numbers[name]);
    if (values.length > LINE) values.shift();
    number.textContent = name === "inflight" ? count(numbers[name]) : compact(numbers[name]);
    line.replaceChildren(spark(values, LINE));
  };
  return { element, tell };
}
