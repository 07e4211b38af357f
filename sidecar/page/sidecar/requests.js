// Recent requests, newest first, each with its decision one click away.

import { h } from "./dom.js";
import { count, latency } from "./format.js";
import { button, link, table } from "./parts.js";
import { sign } from "./marks.js";
import { meaning } from "./reasons.js";
import { timeOf } from "./routes.js";

const list = (value) => (Array.isArray(value) ? value : []);
const ARROWS = { inbound: "→", outbound: "←" };
const WORDS = { inbound: "to the app", outbound: "from the app" };

/** @returns those that are kept and like the text that is searched for */
export function requestRows(requests, text, onlyFailed) {
  const like = (one) =>
    !text ||
    [one.method, one.host, one.path, one.route, one.upstream, one.endpoint, one.status, one.grpc_status, one.flag, one.request_id].some((part) =>
      String(part ?? "").toLowerCase().includes(text),
    );
  return list(requests?.requests).filter((one) => like(one) && (!onlyFailed || hasFailed(one)));
}

/** A call of gRPC that failed has 200 in HTTP, and beside it the status that stands for how it ended. */
const judged = ({ status, counts_as: countsAs }) => countsAs ?? status;
const isBad = (one) => judged(one) >= 500 || judged(one) === 0;

export const hasFailed = (one) => judged(one) >= 400 || isBad(one) || Boolean(one.flag && one.flag !== "-");

/** @param page requests: the answer of `/requests`, or {none: why} where nothing is kept, or null before it came */
export function requestsSheet(page, rows, shown) {
  const { requests, on } = page;
  const title = h("h2", { key: "title", id: "requests-title" }, "Recent requests");
  if (!requests) return [title, h("p", { key: "asking", class: "empty" }, "Asking for the requests …")];
  if (requests.none) return [title, h("p", { key: "none", class: "empty" }, requests.none)];
  const kept = [
    `${count(requests.kept)} of at most ${count(requests.keep)} are kept`,
    requests.not_kept ? `${count(requests.not_kept)} were too many to keep` : "",
    `the newest ${list(requests.requests).length} are here; one opens its decision`,
  ];
  return [
    title,
    h(
      "div",
      { key: "acts", class: "acts" },
      button(page.isPaused ? "Go on" : "Hold still", on.pause, { "aria-pressed": String(page.isPaused) }),
      button("Failed only", on.onlyFailed, { "aria-pressed": String(page.onlyFailed) }),
      h("span", { class: "hint" }, kept.filter(Boolean).join("; ")),
    ),
    rows.length
      ? table(
          "Recent requests",
          ["time", "request", "#status", "route", "sent to", "#took"],
          rows.slice(0, shown).map((one, i) => cellsOf(one, i, page)),
        )
      : h("p", { key: "no", class: "empty" }, page.search || page.onlyFailed ? "No request is like that." : "No request came yet."),
    rows.length > shown
      ? h(
          "p",
          { key: "more", class: "more" },
          `${shown} of ${rows.length} are shown. `,
          button(`Show all ${rows.length}`, on.moreRequests),
        )
      : null,
  ];
}

function cellsOf(one, i, { on, chosen, reasons }) {
  const id = String(one.request_id || "");
  const what = `${one.method || ""} ${one.host || ""}${one.path || ""}`;
  const failed = hasFailed(one);
  return {
    key: id ? `${id} ${one.direction}` : `${one.time} ${i}`,
    class: [isBad(one) ? "is-bad" : "", id && chosen === id ? "is-chosen" : ""].filter(Boolean).join(" "),
    cells: [
      h("span", { class: "whole" }, timeOf(one.time)),
      h(
        "span",
        {},
        h("span", { class: "unseen" }, WORDS[one.direction] || ""),
        h("span", { "aria-hidden": "true", class: "hint" }, `${ARROWS[one.direction] || "·"} `),
        id ? link(what, () => on.explainRequest(one), `Explain ${what}`) : h("span", { class: "id" }, what),
      ),
      h(
        "span",
        { class: "whole" },
        failed ? sign(isBad(one) ? "bad" : "warn", String(one.status || "–")) : String(one.status ?? "–"),
        one.grpc_status ? ` ${one.grpc_status}` : null,
        one.flag && one.flag !== "-" ? h("code", { title: meaning(one.flag, reasons) || null }, ` ${one.flag}`) : null,
      ),
      String(one.route || "(no route)"),
      h(
        "span",
        {},
        one.upstream ? String(one.upstream) : "–",
        one.endpoint ? h("span", { class: "under" }, String(one.endpoint)) : null,
        one.attempts > 1 ? h("span", { class: "under warn" }, `${one.attempts} attempts`) : null,
      ),
      latency(Number.isFinite(one.duration_ms) ? one.duration_ms / 1000 : null),
    ],
  };
}
