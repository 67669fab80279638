// Signing in by the token: says what it is and where it stands, and goes back to where somebody wanted to be.

import { loadSession, session, signIn } from "./api.js";
import { safeNext } from "./address.js";
import { h, problem, replace } from "./dom.js";

export async function page({ main, query }) {
  const next = safeNext(query.get("next"));
  const now = await loadSession();
  if (!now.token_needed || now.signed_in) {
    location.replace(next);
    return;
  }

  const said = h("p", { class: "field-error", id: "token-error", role: "alert" });
  const field = h("input", {
    type: "password", id: "token", name: "token", autocomplete: "current-password", required: true,
    "aria-describedby": "token-hint token-error", spellcheck: "false", autocapitalize: "off",
  });
  const button = h("button", { type: "submit", class: "button-primary" }, "Sign in");
  const trouble = h("div", {});

  const form = h(
    "form",
    { method: "post", onsubmit: submit },
    // Password managers keep the token under a name.
    h("input", { type: "text", name: "username", autocomplete: "username", value: "etl-host", hidden: true, tabindex: "-1" }),
    h(
      "div",
      { class: "field" },
      h("label", { for: "token" }, h("strong", {}, "Token")),
      field,
      said,
      h("p", { class: "field-hint", id: "token-hint" },
        "The API token of this daemon. It is ", h("code", {}, "http.token"), " in its ", h("code", {}, "etl-host.yaml"),
        ". A variable such as ", h("code", {}, "${ETL_API_TOKEN}"), " there has its value in the daemon's environment."),
    ),
    button,
    trouble,
  );

  async function submit(event) {
    event.preventDefault();
    replace(said);
    replace(trouble);
    field.removeAttribute("aria-invalid");
    if (!field.value.trim()) return wrong("Enter the token.");
    button.disabled = true;
    replace(button, "Signing in …");
    try {
      await signIn(field.value.trim());
      if (session()?.signed_in) return location.replace(next);
      wrong("The daemon did not sign you in. Try again.");
    } catch (error) {
      if (error.status === 401) wrong("This is not the token of this daemon.");
      else replace(trouble, problem(error));
    }
    button.disabled = false;
    replace(button, "Sign in");
    return undefined;
  }

  function wrong(text) {
    replace(said, text);
    field.setAttribute("aria-invalid", "true");
    field.focus();
    field.select();
  }

  replace(
    main,
    h(
      "section",
      { class: "card login" },
      h("h1", { dataset: { title: "Sign in" } }, "Sign in to etl-host"),
      h("p", { class: "quiet" }, "This daemon shows and does nothing without its token."),
      form,
    ),
  );
  field.focus();
}
