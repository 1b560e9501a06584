// A button that copies a text.

import { announce, h } from "../dom.js";

const TOLD = 2000;

/** Copy `text`; `what` says what it is. */
export function copyButton(text, what) {
  const button = h(
    "button",
    {
      type: "button",
      class: "copy",
      "aria-label": `Copy ${what}`,
      onclick: async () => {
        const done = await copied(text);
        button.textContent = done ? "Copied" : "Not copied";
        announce(`${what}: ${button.textContent.toLowerCase()}.`);
        setTimeout(() => (button.textContent = "Copy"), TOLD);
      },
    },
    "Copy",
  );
  return button;
}

/** Without TLS a browser has no clipboard for pages, but for a text that is selected. */
async function copied(text) {
  if (navigator.clipboard)
    return navigator.clipboard.writeText(text).then(
      () => true,
      () => false,
    );
  const active = document.activeElement;
  const field = h("textarea", { class: "quiet-text", "aria-hidden": "true" });
  field.value = text;
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  active?.focus();
  return done;
}
