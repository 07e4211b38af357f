// The map as tables: the same services and calls, for who reads rather than looks, and for screen readers.

import { h } from "./dom.js";
import { flow, latency, octetRate, percent } from "./format.js";
import { lockWord, sign } from "./marks.js";
import { link, table } from "./parts.js";

const byName = (a, b) => (a < b ? -1 : a > b ? 1 : 0);

/** Rows are in the order of names, whatever the numbers are: a row that one reads does not jump away. */
export function tables(view, found, page) {
  const { on } = page;
  const shown = found === null ? null : new Set(found);
  const services = view.nodes
    .flatMap((node) => node.members || [node.service])
    .filter((one) => !shown || shown.has(one.name))
    .sort((a, b) => byName(a.name, b.name));
  const calls = view.edges
    .flatMap((call) => call.of || [call])
    .filter((call) => !shown || shown.has(call.from) || shown.has(call.to))
    .sort((a, b) => byName(a.key, b.key));
  return [
    table(
      `Services (${services.length})`,
      ["service", "state", "versions", "#healthy", "#instances", "#stale", "#refused"],
      services.map((one) => ({
        key: one.name,
        class: `is-${one.severity}`,
        cells: [
          link(one.name || "unknown callers", () => on.service(one.name)),
          h("span", {}, sign(one.severity), one.why.length ? h("span", { class: "under" }, one.why.join("; ")) : null),
          one.kind === "mesh" ? one.versions.join(", ") : "outside of the mesh",
          ...[one.healthy, one.instances, one.stale, one.refused].map((n) => (one.kind === "mesh" ? n : "–")),
        ],
      })),
      true,
    ),
    table(
      `Calls (${calls.length})`,
      ["call", "state", "#requests", "#success", "#p99", "#failed"],
      calls.map((call) => ({
        key: call.key,
        class: `is-${call.severity}`,
        cells: [
          link(`${call.from || "unknown callers"} → ${call.to}`, () => on.edge(call.key)),
          h(
            "span",
            {},
            sign(call.severity),
            call.why.length ? h("span", { class: "under" }, call.why.join("; ")) : null,
            call.tcp ? h("span", { class: "under" }, `TCP: ${octetRate(call.tcp)}`) : null,
            lockWord(call) ? h("span", { class: "under" }, lockWord(call)) : null,
          ),
          flow(call),
          percent(call.success),
          latency(call.p99),
          call.failed,
        ],
      })),
      true,
    ),
  ];
}
