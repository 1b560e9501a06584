// Puts the dashboard together: who is logged in, which view the address names, the frame around it.

import { get, logout } from "./api.js";
import { announce, h, s } from "./dom.js";
import { head, trouble } from "./parts/page.js";
import { here } from "./router.js";
import { themeButton } from "./theme-switch.js";
import * as costs from "./views/costs.js";
import * as interception from "./views/interception.js";
import * as interceptions from "./views/interceptions.js";
import * as latency from "./views/latency.js";
import * as live from "./views/live.js";
import { loginPage } from "./views/login.js";
import * as outcomes from "./views/outcomes.js";
import * as providers from "./views/providers.js";
import * as session from "./views/session.js";
import * as sessions from "./views/sessions.js";

/** By the first part of the address: title, the view of all, the view of one, and its sign. */
const VIEWS = {
  live: ["Live", live, null, "M3 12h4l3-8 4 16 3-8h4"],
  interceptions: ["Interceptions", interceptions, interception, "M4 6h16M4 12h16M4 18h10"],
  sessions: ["Sessions", sessions, session, "M6 4v10a4 4 0 0 0 4 4h8M6 8h8M14 5l3 3-3 3M15 15l3 3-3 3"],
  outcomes: ["Outcomes", outcomes, null, "M5 20V10M12 20V4M19 20v-7"],
  latency: ["Latency", latency, null, "M12 7v5l3 2M12 3a9 9 0 1 1 0 18a9 9 0 1 1 0-18z"],
  costs: [
    "Cost",
    costs,
    null,
    "M12 3v18M16.5 7.5C16 6 14 5.5 12 5.5c-2.5 0-4.5 1-4.5 3.2 0 4.6 9.3 2 9.3 6.6 0 2.2-2.3 3.2-4.8 3.2-2.2 0-4.2-.8-4.7-2.5",
  ],
  providers: ["Providers", providers, null, "M4 5h16v5H4zM4 14h16v5H4zM8 7.5h.01M8 16.5h.01"],
};

const frame = document.getElementById("frame");
const main = document.getElementById("main");
let around = [];
let running = new AbortController();

async function start() {
  try {
    enter((await get("session")).name);
  } catch (error) {
    if (error.status === 401) leave();
    else alone(trouble(error, start));
  }
}

/** Show this and nothing else: no frame, no view. */
function alone(...children) {
  running.abort();
  for (const part of around) part.remove();
  around = [];
  main.removeAttribute("aria-busy");
  delete main.dataset.shows;
  frame.classList.add("alone");
  main.classList.add("alone");
  main.replaceChildren(...children);
}

/** Ask for a key. The address stays, so that whoever comes in is where he wanted to be. */
function leave() {
  document.title = "Log in · aibridge";
  alone(loginPage(enter));
  document.getElementById("key").focus();
}

function enter(name) {
  frame.classList.remove("alone");
  main.classList.remove("alone");
  around = [skipLink(), navigation(name)];
  frame.prepend(...around);
  show();
}

function skipLink() {
  const skip = (event) => {
    event.preventDefault(); // the address is the view's
    main.focus();
  };
  return h("a", { class: "skip", href: "#main", onclick: skip }, "Skip to the content");
}

function navigation(name) {
  const menu = h(
    "button",
    { type: "button", class: "menu", "aria-expanded": "false", "aria-controls": "navigation" },
    "Menu",
  );
  menu.addEventListener("click", () => unfold(menu.getAttribute("aria-expanded") === "false"));
  const links = Object.entries(VIEWS).map(([path, [title, , , sign]]) =>
    h(
      "li",
      {},
      h(
        "a",
        { href: `#/${path}`, "data-view": path },
        s("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" }, s("path", { d: sign })),
        title,
      ),
    ),
  );
  const out = async () => {
    await logout().catch(() => null); // a session that is over already is what was wanted
    leave();
  };
  return h(
    "header",
    { class: "bar" },
    h("a", { class: "brand", href: "#/live" }, h("img", { src: "icon.svg", alt: "" }), "aibridge"),
    menu,
    h("nav", { id: "navigation", "aria-label": "Views" }, h("ul", {}, links)),
    h(
      "div",
      { class: "account" },
      h("span", { class: "who" }, name),
      themeButton(),
      h("button", { type: "button", class: "small", onclick: out }, "Log out"),
    ),
  );
}

/** On a narrow screen: show the navigation, or put it away. */
function unfold(open) {
  document.querySelector(".bar").classList.toggle("open", open);
  document.querySelector(".menu").setAttribute("aria-expanded", String(open));
}

function markCurrent(path) {
  for (const link of document.querySelectorAll("[data-view]")) {
    if (link.dataset.view === path) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

let shown = null;

/** Show the view that the address names. What was asked for the one before is not waited for. */
async function show() {
  if (!around.length) return; // nobody is logged in
  const { parts, parameters } = here();
  const path = Object.hasOwn(VIEWS, parts[0] ?? "") ? parts[0] : "live";
  const [title, all, one] = VIEWS[path];
  const view = parts[1] && one ? one : all;
  running.abort();
  running = new AbortController();
  const { signal } = running;
  markCurrent(path);
  unfold(false);
  document.title = `${title} · aibridge`;
  const address = location.hash;
  main.setAttribute("aria-busy", "true");
  const children = await view.render({ parts, parameters, signal, again: show }).catch((error) => {
    if (error.status === 401) leave();
    else if (!signal.aborted) announce(`${title}: ${error.message}`);
    return signal.aborted || error.status === 401 ? null : [head(title), trouble(error, show)];
  });
  if (!children || signal.aborted) return;
  const kept = document.activeElement?.dataset?.keep;
  main.removeAttribute("aria-busy");
  main.dataset.shows = address; // for who looks on: the address changes before what is shown
  main.replaceChildren(...[children].flat(Infinity).filter(Boolean));
  settle(parts.join("/"), kept);
}

/** Another view begins at its heading; the same one with other filters keeps the place and the control in use. */
function settle(path, kept) {
  if (shown !== path) {
    if (shown !== null) main.querySelector("h1")?.focus({ preventScroll: true });
    scrollTo(0, 0);
  } else if (kept) main.querySelector(`[data-keep="${kept}"]`)?.focus();
  shown = path;
}

addEventListener("hashchange", show);
start();
