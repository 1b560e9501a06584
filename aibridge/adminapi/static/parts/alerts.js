// What needs a look, of what the metrics know: open circuits, keys that are not taken, tool servers that are down.

import { h } from "../dom.js";
import { count, named, words } from "../format.js";
import { link } from "../router.js";

/** Keys of pools by provider: how many there are of each state. */
export function poolsOf(samples) {
  const pools = new Map();
  for (const { labels, value } of samples ?? []) {
    const pool = pools.get(labels.provider) ?? pools.set(labels.provider, {}).get(labels.provider);
    pool[labels.state] = value;
  }
  return pools;
}

/** Sentences, each with where it leads. */
export function alerts({ breakers, key_pools: keys, tool_servers: servers }) {
  return [
    ...(breakers ?? [])
      .filter(({ state }) => state !== "closed")
      .map(({ provider, model, state }) => ({
        text: `The circuit of ${[provider, model].map(named).join(", ")} is ${words(state)}.`,
        target: link("interceptions", { provider, model, period: "1h" }),
      })),
    ...[...poolsOf(keys)].flatMap(([provider, states]) => ofPool(provider, states)),
    ...(servers ?? [])
      .filter(({ up }) => !up)
      .map(({ server }) => ({ text: `The tool server ${named(server)} is down.`, target: link("providers") })),
  ];
}

function ofPool(provider, { valid = 0, ...others }) {
  const bad = Object.entries(others).filter(([, many]) => many > 0);
  if (!bad.length) return [];
  const told = bad.map(([state, many]) => `${count(many)} ${words(state)}`).join(", ");
  const left = valid ? `${count(valid)} left` : "none left";
  return [{ text: `Keys of ${named(provider)}: ${told}, ${left}.`, target: link("providers") }];
}

export function alertList(found) {
  return h(
    "ul",
    { class: "alerts", "aria-label": "Needs a look" },
    found.map(({ text, target }) => h("li", {}, h("a", { href: target }, text))),
  );
}
