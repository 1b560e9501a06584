// Light, dark, or as the system has it. `theme.js` sets what was chosen before the page is painted.

import { h } from "./dom.js";

const NEXT = { auto: "light", light: "dark", dark: "auto" };
const NAMES = { auto: "Theme: auto", light: "Theme: light", dark: "Theme: dark" };

function current() {
  return document.documentElement.dataset.theme ?? "auto";
}

/** Turn to the next theme, and keep it in this browser. */
function nextTheme() {
  const theme = NEXT[current()];
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("theme", theme);
  } catch {
    // No storage in this browser: it holds until the page is left.
  }
  return theme;
}

/** A button that says which theme holds, and turns to the next. */
export function themeButton() {
  const button = h(
    "button",
    { type: "button", class: "small", onclick: () => (button.textContent = NAMES[nextTheme()]) },
    NAMES[current()],
  );
  return button;
}
