// Signs beside colours: who cannot tell red from green reads the form. Each has a word, for those who see neither.

import { h } from "./dom.js";

const FORMS = {
  bad: "M8 1.2 15.2 14H.8zM7.1 5.6l.3 4.4h1.2l.3-4.4zM8 10.9a.9.9 0 1 0 0 1.8.9.9 0 0 0 0-1.8z",
  warn: "M8 1.2 15.2 14H.8zM8 4.3 3.4 12.5h9.2zM7.3 7h1.4v3H7.3zM7.3 10.6h1.4v1.3H7.3z",
  ok: "M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1zM6.9 11.3 3.7 8.1l1.1-1.1 2.1 2.1 4.3-4.3 1.1 1.1z",
  idle: "M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1zm0 1.6a5.4 5.4 0 1 1 0 10.8A5.4 5.4 0 0 1 8 2.6z",
};
const LOCKS = {
  all: "M4.5 7V5a3.5 3.5 0 0 1 7 0v2h1.2v7.5H3.3V7zM6 7h4V5a2 2 0 0 0-4 0z",
  some: "M4.5 7V4a3.5 3.5 0 0 1 6.8-1.2l-1.4.5A2 2 0 0 0 6 4v3h6.7v7.5H3.3V7zM5 8.6h6v4.2H5z",
};
export const WORDS = { bad: "hurts", warn: "look at it", ok: "well", idle: "at rest" };

/** The sign within a drawing, its left upper corner at x, y; 16 pixels times `scale`. */
export function mark(severity, x, y, scale = 1) {
  return h("path", {
    class: `mark mark-${severity}`,
    d: FORMS[severity],
    transform: `translate(${x} ${y}) scale(${scale})`,
  });
}

/** A lock, closed where all of a call is by TLS, open and hollow where some is; else nothing. */
export function lock(call, x, y, scale = 1) {
  if (!LOCKS[call.tls]) return null;
  return h("path", {
    class: `lock lock-${call.tls}`,
    d: LOCKS[call.tls],
    transform: `translate(${x} ${y}) scale(${scale})`,
  });
}

/** The same in words. */
export function lockWord(call) {
  const how = call.mutual ? "mutual TLS" : "TLS";
  return call.tls === "all" ? `all by ${how}` : call.tls === "some" ? `some by ${how}, some in clear` : "";
}

/** The sign within text. */
export function sign(severity, word = WORDS[severity]) {
  return h(
    "span",
    { class: `sign sign-${severity}` },
    h(
      "svg",
      { viewBox: "0 0 16 16", width: "14", height: "14", "aria-hidden": "true", focusable: "false" },
      mark(severity, 0, 0),
    ),
    h("span", { class: word ? "sign-word" : "" }, word),
  );
}
