// What the flag of a failed request means, in the words of the one table (`reasons.json`).

import { h } from "./dom.js";
import { count } from "./format.js";

const SHOWN = 3; // Of what one flag can mean.

/** What a flag can mean, in a line; "" where it is not known, as of a status. @param reasons flag -> [{text, hint}] */
export function meaning(flag, reasons) {
  return ((reasons && reasons[flag]) || [])
    .slice(0, SHOWN)
    .map((one) => one.text)
    .join("; or ");
}

export function reason(flag, times, reasons) {
  const said = (reasons && reasons[flag]) || [];
  const means = said.length
    ? said
        .slice(0, SHOWN)
        .map((one) => h("li", { key: one.text }, one.text, h("span", { class: "hint" }, ` – see ${one.hint}`)))
    : h(
        "li",
        {},
        /^[1-5]xx$|^[1-5]\d\d$/.test(flag) ? `the callee answered with status ${flag}` : "not known to this release",
      );
  return h("li", { key: flag }, h("span", { class: "times" }, count(times)), h("code", {}, flag), h("ul", {}, means));
}
