// Small pieces that several panels are made of.

import { h } from "./dom.js";
import { percent, place } from "./format.js";
import { sign } from "./marks.js";

export function section(key, title, ...children) {
  return h("section", { key, class: "part" }, h("h3", {}, title), children);
}

/** Pairs of a word and its value. */
export function facts(pairs) {
  const some = pairs.filter((pair) => pair && pair[1] !== null && pair[1] !== undefined && pair[1] !== "");
  return h(
    "dl",
    { class: "facts" },
    some.map(([word, value]) => h("div", { key: word }, h("dt", {}, word), h("dd", {}, value))),
  );
}

/**
 * A table.
 * @param heads texts; one that begins with `#` is of numbers
 * @param rows [{key, class, cells: [...]}]; the first cell of a row names it
 */
export function table(caption, heads, rows, shown = false) {
  const kind = heads.map((head) => (head.startsWith("#") ? "number" : null));
  return h(
    "div",
    { class: "scroll", key: `table ${caption}` },
    h(
      "table",
      {},
      h("caption", { class: shown ? "" : "unseen" }, caption),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          heads.map((head, i) => h("th", { scope: "col", class: kind[i] }, head.replace(/^#/, ""))),
        ),
      ),
      h(
        "tbody",
        {},
        rows.map((row) =>
          h(
            "tr",
            { key: row.key, class: row.class },
            row.cells.map((cell, i) => (i === 0 ? h("th", { scope: "row" }, cell) : h("td", { class: kind[i] }, cell))),
          ),
        ),
      ),
    ),
  );
}

export function button(text, click, more = {}) {
  return h("button", { type: "button", class: "button", ...more, on: { click } }, text);
}

/** What leads to a service or a call: looks like a link, and is a button, for it changes what is shown and goes nowhere. */
export function link(text, click, label = null) {
  return h("button", { type: "button", class: "link", "aria-label": label, on: { click } }, text);
}

/** Problems of a file, each with its place. */
export function problems(list) {
  return h(
    "ul",
    { class: "problems" },
    list.map((problem, i) =>
      h(
        "li",
        { key: `${place(problem)} ${i}` },
        place(problem) ? h("code", { class: "place" }, place(problem)) : null,
        problem.path ? h("code", { class: "path" }, problem.path) : null,
        h("p", {}, String(problem.message || "")),
        problem.hint ? h("p", { class: "hint" }, String(problem.hint)) : null,
      ),
    ),
  );
}

/** What is told of problems, whether they came as text or in parts, as `problems` takes it. */
export function problemsOf(said) {
  return (Array.isArray(said) ? said : []).map((one) => (typeof one === "string" ? { message: one } : one || {}));
}

/** Warnings, as problems are told, in the colour of what is to be looked at. */
export function warnings(said) {
  return h("div", { key: "warnings", class: "warnings" }, problems(problemsOf(said)));
}

/** A share of 1 as a bar with its number beside it. */
export function bar(share, text, words = "") {
  const width = Math.max(0, Math.min(1, Number.isFinite(share) ? share : 0)) * 100;
  return h(
    "span",
    { class: `split ${words}` },
    h(
      "svg",
      {
        viewBox: "0 0 100 6",
        width: "100",
        height: "6",
        preserveAspectRatio: "none",
        "aria-hidden": "true",
        focusable: "false",
      },
      h("rect", { class: "split-all", width: 100, height: 6, rx: 3 }),
      h("rect", { class: "split-part", width: width.toFixed(1), height: 6, rx: 3 }),
    ),
    h("span", { class: "split-text" }, text),
  );
}

/** What a request is divided among: each part as it is written, and as it falls. @param to [{upstream, weight, share}] */
export function splits(to) {
  const all = to.reduce((sum, one) => sum + (one.weight || 0), 0);
  return h(
    "ul",
    { class: "splits" },
    to.map((one, n) =>
      h(
        "li",
        { key: `${one.upstream} ${n}` },
        h("span", { class: "id" }, String(one.upstream)),
        bar(all ? one.weight / all : 1, `${percent(all ? one.weight / all : 1)} as written`),
        bar(
          one.share,
          one.share === null || one.share === undefined ? "no requests" : `${percent(one.share)} as it falls`,
          "falls",
        ),
      ),
    ),
  );
}

/** A line across the page that says what is wrong with all of it. */
export function banner(key, severity, text, act = null) {
  return h(
    "div",
    { key, class: `banner is-${severity}`, "data-banner": key },
    sign(severity, ""),
    h("p", {}, text),
    act,
  );
}
