// How the providers are: traffic since the start, circuits, key pools, tool servers. From the gateway's metrics.

import { get } from "../api.js";
import { h, s } from "../dom.js";
import { count, named, percent, words } from "../format.js";
import { poolsOf } from "../parts/alerts.js";
import { empty, head, panel } from "../parts/page.js";
import { meter, table } from "../parts/table.js";
import { link } from "../router.js";

/** A state's shape and how good it is: a full circle is closed or up, a ring half-open, a cross open or down. */
const STATES = { closed: "good", up: "good", half_open: "half", open: "bad", down: "bad" };
const SIGNS = {
  good: "M6 1a5 5 0 1 1 0 10a5 5 0 1 1 0-10z",
  half: "M6 2a4 4 0 1 1 0 8a4 4 0 1 1 0-8z",
  bad: "M2 2l8 8M10 2l-8 8",
};

export async function render({ signal, again }) {
  const { providers, breakers, key_pools: pools, tool_servers: servers } = await get("providers", {}, signal);
  return [
    head(
      "Providers",
      "As the gateway’s metrics say, since its start.",
      h("button", { type: "button", onclick: again }, "Ask again"),
    ),
    h(
      "div",
      { class: "stack" },
      panel("Traffic", {}, providers?.length ? traffic(providers) : empty("No provider was asked yet.")),
      h(
        "div",
        { class: "pair" },
        panel(
          "Circuits",
          { lead: "Closed lets requests pass, open does not." },
          breakers?.length ? circuits(breakers) : empty("No circuit breaker is on, or none has a circuit yet."),
        ),
        panel(
          "Tool servers",
          { lead: "Servers of MCP." },
          servers?.length ? toolServers(servers) : empty("None is configured."),
        ),
      ),
      panel(
        "Key pools",
        { lead: "Cooling keys have reached a limit; refused ones are not taken." },
        pools?.length ? keyPools(pools) : empty("No provider has a pool of keys."),
      ),
    ),
  ];
}

function state(word) {
  const kind = STATES[word] ?? "half";
  return h(
    "span",
    { class: `state ${kind}` },
    s("svg", { viewBox: "0 0 12 12", "aria-hidden": "true" }, s("path", { d: SIGNS[kind] })),
    words(word),
  );
}

function traffic(rows) {
  const ended = (row) => row.completed + row.failed + row.client_gone;
  return table(
    "Interceptions by provider",
    [
      {
        name: "Provider",
        wide: true,
        of: (row) => [
          h("a", { href: link("interceptions", { provider: row.provider }) }, named(row.provider)),
          meter(row.completed, ended(row), "completed"),
        ],
      },
      { name: "Running", number: true, of: (row) => count(row.inflight) },
      { name: "Begun", number: true, of: (row) => count(row.started) },
      {
        name: "Completed",
        number: true,
        of: (row) => `${count(row.completed)} (${percent(row.completed, ended(row))})`,
      },
      {
        name: "Failed",
        number: true,
        of: (row) => {
          const target = link("outcomes", { provider: row.provider });
          return row.failed ? h("a", { href: target }, count(row.failed)) : "0";
        },
      },
      { name: "Client gone", number: true, of: (row) => count(row.client_gone) },
    ],
    rows,
    { cards: true, hidden: true },
  );
}

function circuits(rows) {
  const worst = { open: 0, half_open: 1 };
  return table(
    "Circuits, by provider, endpoint and model",
    [
      {
        name: "Circuit",
        wide: true,
        of: (row) => [
          h("a", { href: link("interceptions", { provider: row.provider, model: row.model }) }, named(row.provider)),
          h("span", { class: "sub" }, [row.endpoint, row.model].filter(Boolean).join(", ")),
        ],
      },
      { name: "State", of: (row) => state(row.state) },
    ],
    rows.toSorted((one, other) => (worst[one.state] ?? 2) - (worst[other.state] ?? 2)),
    { hidden: true },
  );
}

function toolServers(rows) {
  return table(
    "Tool servers",
    [
      { name: "Server", wide: true, of: (row) => named(row.server) },
      { name: "State", of: (row) => state(row.up ? "up" : "down") },
    ],
    rows,
    { hidden: true },
  );
}

function keyPools(samples) {
  return table(
    "Keys of pools, by what is known of them",
    [
      { name: "Provider", wide: true, of: ([provider]) => named(provider) },
      { name: "Valid", number: true, of: ([, { valid }]) => count(valid ?? 0) },
      { name: "Cooling", number: true, of: ([, { cooling }]) => count(cooling ?? 0) },
      { name: "Refused", number: true, of: ([, { refused }]) => count(refused ?? 0) },
    ],
    [...poolsOf(samples)],
    { cards: true, hidden: true },
  );
}
