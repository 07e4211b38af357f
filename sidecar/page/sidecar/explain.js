// The form that asks what the sidecar would do with a request, and the question that comes of it.

import { h } from "./dom.js";
import { sign } from "./marks.js";
import { button } from "./parts.js";
import { explanation } from "./explanation.js";

/** What stands in the form at first. */
export const EMPTY = { method: "GET", url: "", headers: "", source: "", direction: "outbound", error: "" };

const SCHEME = /^[a-z][a-z0-9+.-]*:[/]{2}/i;
/** Whether somebody wrote a curl command; the sidecar reads it as `sidecar explain` does. */
const CURL = /^\s*(?:\$\s+)?(curl\s[^]*)$/;

/**
 * The address that answers the form.
 * @throws Error a field is not what is expected; the message says which
 */
export function questionOf({ method, url, headers, source, direction }) {
  const asked = new URLSearchParams();
  const [, curl] = CURL.exec(url) || [];
  const text = url.trim();
  if (curl) asked.append("curl", curl.trim());
  else if (text) asked.append("url", SCHEME.test(text) ? text : `http://${text}`);
  else throw new Error("URL: expected one, such as http://recommendations/v1");
  if (!curl && method.trim()) asked.append("method", method.trim());
  headers.split(/\r?\n/).forEach((line, i) => {
    if (!line.trim()) return;
    if (!/^[^:\s]+\s*:/.test(line.trim())) throw new Error(`Headers, line ${i + 1}: expected NAME: VALUE, found ${line.trim()}`);
    asked.append("header", line.trim());
  });
  if (source.trim()) asked.append("source_ip", source.trim());
  asked.append("direction", direction);
  return `explain?${asked}`;
}

/** What the form asks about, in a line. */
export function titleOfForm({ method, url }) {
  const [, curl] = CURL.exec(url) || [];
  return curl ? curl.trim().split("\n")[0] : `${method.trim() || "GET"} ${url.trim()}`;
}

/** The question about a request that is kept; what came in and went out again has one id in both directions. */
export function questionOfRequest({ request_id: id, direction }) {
  const asked = new URLSearchParams({ request_id: id });
  if (direction) asked.append("direction", direction);
  return `explain?${asked}`;
}

/**
 * What came of a question, for a person.
 * @param status of HTTP; @param said its JSON or undefined; @param text as it came
 * @returns {said} or {why}
 */
export function readExplained({ status, said, text }) {
  if (status === 200 && said && typeof said === "object") return { said };
  if (status === 404 && !(said && typeof said === "object"))
    return { why: /no such endpoint/.test(text) ? "This release of the sidecar does not explain requests." : plain(text) };
  return { why: whyOf(said, text, status) };
}

export function whyOf(said, text, status) {
  if (said && typeof said === "object") {
    if (typeof said.error === "string") return said.error;
    if (Array.isArray(said.problems) && said.problems.length)
      return said.problems.map((one) => (typeof one === "string" ? one : one.text || one.message || "")).join("\n");
  }
  return plain(text) || `it answers ${status}`;
}

const plain = (text) => String(text || "").trim().slice(0, 2000);

/** @param page form: as `EMPTY`; explained: {title, pending, why, said}, or null */
export function explainSheet(page) {
  const { form, explained, on } = page;
  const typing = (name) => ({ input: (event) => on.form(name, event.target.value) });
  // A command has lines, where somebody pastes it; a person who types a URL wants an answer of Enter.
  const keydown = (event) => {
    if (event.key !== "Enter" || event.shiftKey) return;
    event.preventDefault();
    on.explain();
  };
  const field = (name, label, more, tag = "input") =>
    h(
      "p",
      { key: name, class: `field of-${name}` },
      h("label", { for: `explain-${name}` }, label),
      h(tag, {
        id: `explain-${name}`,
        value: form[name],
        autocomplete: "off",
        spellcheck: "false",
        "aria-describedby": form.error ? "explain-error" : null,
        on: typing(name),
        ...more,
      }),
    );
  return [
    h("h2", { key: "title", id: "explain-title", tabindex: "-1" }, "Explain a request"),
    h(
      "form",
      {
        key: "form",
        class: "form",
        "aria-labelledby": "explain-title",
        on: {
          submit: (event) => {
            event.preventDefault();
            on.explain();
          },
        },
      },
      h(
        "div",
        { class: "line" },
        field("method", "Method", { type: "text" }),
        field("url", "URL, or a curl command", { rows: "1", placeholder: "http://recommendations/v1", on: { ...typing("url"), keydown } }, "textarea"),
      ),
      field("headers", "Headers, one a line", { rows: "2", placeholder: "cookie: BETA_USER=true" }, "textarea"),
      h(
        "div",
        { class: "line ends" },
        field("source", "From address", { type: "text", placeholder: "127.0.0.1" }),
        h(
          "span",
          { class: "views", role: "group", "aria-label": "Direction" },
          ["outbound", "inbound"].map((one) =>
            button(one === "outbound" ? "From the app" : "To the app", () => on.form("direction", one), {
              key: one,
              "aria-pressed": String(form.direction === one),
            }),
          ),
        ),
        h("button", { type: "submit", class: "button strong" }, "Explain"),
      ),
      form.error ? h("p", { key: "error", id: "explain-error", class: "wrong" }, form.error) : null,
    ),
    explained ? h("div", { key: "answer", class: "answer" }, ...answer(explained, on)) : null,
  ];
}

function answer({ title, pending, why, said }, on) {
  return [
    h(
      "div",
      { key: "head", class: "panel-head" },
      h("h3", { id: "answer-title", tabindex: "-1" }, title),
      button("Close", on.closeAnswer, { class: "button quiet", "aria-label": "Close the explanation" }),
    ),
    pending ? h("p", { key: "pending", class: "empty" }, "Asking …") : null,
    why ? h("p", { key: "why", class: "wrong" }, sign("warn", ""), ` ${why}`) : null,
    said ? explanation(said) : null,
  ];
}
