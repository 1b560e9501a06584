// Elements from values. Text is always set as text: nothing in the dashboard parses HTML.

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
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

/** Tell people who listen to the page rather than look at it. */
export function announce(text) {
  document.getElementById("announcer").textContent = text;
}
