// The way in: an admin key for a session.

import { login } from "../api.js";
import { h } from "../dom.js";

/** The page that asks for a key; `done` is called with whose it is. */
export function loginPage(done) {
  const wrong = h("p", { class: "wrong", id: "wrong", role: "alert" });
  const key = h("input", {
    type: "password",
    name: "key",
    id: "key",
    autocomplete: "current-password",
    required: true,
    "aria-describedby": "wrong",
  });
  const button = h("button", { class: "primary", type: "submit" }, "Log in");
  const submit = async (event) => {
    event.preventDefault();
    button.disabled = true;
    wrong.replaceChildren();
    try {
      done((await (await login(key.value)).json()).name);
    } catch (error) {
      wrong.textContent = error.status === 401 ? "This is not an admin key of this gateway." : error.message;
      key.select();
    } finally {
      button.disabled = false;
    }
  };
  return h(
    "section",
    { class: "login panel" },
    h("p", { class: "brand" }, h("img", { src: "icon.svg", alt: "" }), "aibridge"),
    h("h1", { tabindex: -1 }, "Log in"),
    h(
      "form",
      { onsubmit: submit },
      h("label", { for: "key" }, "Admin key", key),
      wrong,
      button,
      h(
        "p",
        { class: "note" },
        "Admin keys stand in the gateway’s configuration, under ",
        h("code", {}, "admin.keys"),
        ".",
      ),
    ),
  );
}
