// What the flag of a failed request means, in the words of the one table (`reasons.json`).

import { h } from "./dom.js";
import { count } from "./format.js";

export function reason(flag, times, reasons) {
  const said = (reasons && reasons[flag]) || [];
  const means = said.length
    ? said
        .slice(0, 3)
        .map((one) => h("li", { key: one.text }, one.text, h("span", { class: "hint" }, ` – see ${one.hint}`)))
    : h(
        "li",
        {},
        /^[1-5]xx$|^[1-5]\d\d$/.test(flag) ? `the callee answered with status ${flag}` : "not known to this release",
      );
  return h("li", { key: flag }, h("span", { class: "times" }, count(times)), h("code", {}, flag), h("ul", {}, means));
}
