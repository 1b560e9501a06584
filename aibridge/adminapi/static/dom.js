// Elements from values. Text is always set as text: nothing in the dashboard parses HTML.

/** What is not seen, or turns around what stands beside it (UTR 36): controls, and what changes a direction. */
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b\u2028-\u202e\u2060\u2066-\u2069\ufeff]/g;
const LINE_END = /\r\n/g;

/** Attributes that people read. */
const READ = new Set(["aria-label", "title"]);

/** A text in which everything is seen: `⟨202E⟩` for what is not. */
export function seen(text) {
  return text
    .replace(LINE_END, "\n")
    .replace(UNSEEN, (one) => `⟨${one.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);
}

const SVG = "http://www.w3.org/2000/svg";

/** Build an HTML element: attributes, listeners (`onclick: f`), children; null and false are left out. */
export function h(tag, properties, ...children) {
  return build(document.createElement(tag), properties, children);
}

/** Build an SVG element. */
export function s(tag, properties, ...children) {
  return build(document.createElementNS(SVG, tag), properties, children);
}

function build(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : READ.has(name) ? seen(value) : value);
  }
  element.append(
    ...children
      .flat(Infinity)
      .filter((child) => child !== null && child !== undefined && child !== false)
      .map((child) => (typeof child === "string" ? seen(child) : child)),
  );
  return element;
}

/** Tell people who listen to the page rather than look at it. */
export function announce(text) {
  document.getElementById("announcer").textContent = text;
}
