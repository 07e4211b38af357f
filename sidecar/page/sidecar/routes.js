// Routes of both directions, in the order in which they are tried: what goes there now, and how what is split falls.

import { h } from "./dom.js";
import { clock, count, latency, percent, place, rate } from "./format.js";
import { judge } from "./judge.js";
import { sign } from "./marks.js";
import { button, splits, table } from "./parts.js";
import { partKey, quantile, routeKey, success } from "./rates.js";
import { meaning } from "./reasons.js";

const list = (value) => (Array.isArray(value) ? value : []);
const TITLES = { outbound: "From the app (outbound)", inbound: "To the app (inbound)" };
const UNMATCHED = { 404: "answered with 404", passthrough: "sent where it was going" };

/**
 * @param routes the answer of `/routes`
 * @param flows as `Scrapes.flows`, or null
 * @returns [{direction, index, name, match, from, to, does, hits, last, share, flow, severity, why}]; index is null for what
 *   no route takes
 */
export function rowsOf(routes, flows) {
  return Object.keys(TITLES).flatMap((direction) => {
    const side = routes?.[direction];
    if (!side) return [];
    const rows = list(side.routes).map((route, index) => rowOf(route, direction, index, flows));
    const { unmatched } = side;
    if (unmatched && typeof unmatched === "object")
      rows.push({ ...rowOf(unmatched, direction, null, flows), match: "all that no route takes" });
    else {
      const none = rowOf({ name: "" }, direction, null, flows);
      const does = UNMATCHED[unmatched] || String(unmatched ?? "");
      if (unmatched || none.flow) rows.push({ ...none, name: "(no route)", match: "all that no route takes", does });
    }
    return rows;
  });
}

function rowOf(route, direction, index, flows) {
  const name = String(route.name ?? "");
  const flow = flows?.now.routes.get(routeKey(direction, name)) || null;
  const to = list(route.to);
  const fallen = to.map(({ upstream }) => flows?.long.parts.get(partKey(direction, name, String(upstream)))?.requests || 0);
  const all = fallen.reduce((a, b) => a + b, 0);
  const { severity, why } = flow?.requests ? judge({ success: success(flow), failed: flow.failed, p99: null }) : { severity: "idle", why: [] };
  return {
    direction,
    index,
    name,
    match: list(route.match).map(written).join(", or "),
    from: route.from ? String(route.from) : "",
    to: to.map(({ upstream, weight, left_out: left }, i) => ({ upstream, weight, left, share: all ? fallen[i] / all : null })),
    does: doesOf(route),
    hits: route.hits,
    since: route.counted_since,
    last: route.last_hit,
    share: route.share,
    flow,
    severity,
    why,
  };
}

/** A match: `host recommendations, cookie BETA_USER exact "true"`. */
function written(match) {
  if (typeof match !== "object" || match === null) return String(match);
  const parts = Object.entries(match).map(([part, text]) => `${part} ${text}`);
  return parts.length ? parts.join(", ") : "every request";
}

function doesOf(route) {
  if (route.redirect) return `redirects (${typeof route.redirect === "object" ? route.redirect.status : route.redirect})`;
  if (route.respond) return `answers ${typeof route.respond === "object" ? route.respond.status : route.respond}`;
  return "";
}

/** Whether a row has the text that is searched for anywhere. */
export function isLike(row, text) {
  const has = [row.name, row.match, row.from, row.does, ...row.to.map((one) => String(one.upstream))];
  return has.some((one) => one.toLowerCase().includes(text));
}

/** @param rows of `rowsOf`, those that are found; @param shown how many of them are drawn */
export function routesSheet(page, rows, shown) {
  const { routes, on } = page;
  const told = rows.slice(0, shown);
  const counted = told.some((row) => row.hits !== undefined);
  const since = Object.values(routes || {}).find((side) => side?.counted_since)?.counted_since || routes?.counted_since;
  return [
    h("h2", { key: "title", id: "routes-title" }, "Routes"),
    h(
      "p",
      { key: "hint", class: "hint" },
      "In the order in which they are tried; the first that matches takes a request. Rates are of the last 10 s, what falls of the last minute",
      counted && since ? `; hits since ${timeOf(since)}.` : ".",
    ),
    !routes ? h("p", { key: "none", class: "empty" }, "Asking for the routes …") : null,
    routes && !rows.length ? h("p", { key: "no", class: "empty" }, page.search ? "No route is like that." : "There are no routes.") : null,
    Object.keys(TITLES).map((direction) => {
      const some = told.filter((row) => row.direction === direction);
      return some.length ? table(TITLES[direction], heads(counted), some.map((row) => cellsOf(row, page, counted)), true) : null;
    }),
    rows.length > shown
      ? h(
          "p",
          { key: "more", class: "more" },
          `${shown} of ${rows.length} are shown. `,
          button("Show 100 more", on.moreRoutes),
        )
      : null,
  ];
}

function heads(counted) {
  const more = counted ? ["#hits"] : [];
  return ["route", "goes to", "#requests", "#success", "#p50", "#p99", ...more];
}

function cellsOf(row, page, counted) {
  const { flow } = row;
  const { flows } = page;
  const made = {
    key: `${row.direction} ${row.index ?? "-"} ${row.name}`,
    class: `is-${row.severity}`,
    cells: [
      h(
        "span",
        {},
        h(
          "span",
          { class: "route-name" },
          row.severity === "bad" || row.severity === "warn" ? sign(row.severity, "") : null,
          h("span", { class: "id" }, row.name || "(without a name)"),
          row.from ? h("code", { class: "place", title: row.from }, shortPlace(row.from)) : null,
        ),
        h("span", { class: "under" }, row.match || "every request"),
        failures(flow, page.reasons),
      ),
      row.to.length > 1
        ? splits(row.to)
        : h("span", { class: "goes" }, row.to.length ? String(row.to[0].upstream) : row.does),
      flows ? rate(flow ? flow.requests / flows.now.seconds : 0) : "–",
      percent(success(flow)),
      latency(quantile(flow, 0.5)),
      latency(quantile(flow, 0.99)),
    ],
  };
  if (counted) made.cells.push(hitsOf(row));
  return made;
}

/** Why requests failed, the most frequent first, in the words of the one table. */
export function failures(flow, reasons) {
  if (!flow?.failed) return null;
  return [...flow.flags]
    .sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1))
    .map(([flag, times]) => {
      const means = meaning(flag, reasons);
      return h("span", { key: flag, class: "under warn" }, `failed: ${flag} ${count(times)}${means ? `, ${means}` : ""}`);
    });
}

function hitsOf({ hits, last, share, since }) {
  if (hits === undefined || hits === null) return "–";
  return h(
    "span",
    { title: since ? `since ${timeOf(since)}` : null }, // A route that a reload has changed counts anew.
    count(hits),
    hits && Number.isFinite(share) ? h("span", { class: "under" }, percent(share)) : null,
    h("span", { class: "under whole" }, last ? `last ${timeOf(last)}` : hits ? "" : "never"),
  );
}

/** The last part of a path: a table has no room for all of it, and the title has it. */
export function shortPlace(from) {
  return String(from).split("/").pop();
}

/** A time of the wire as the hour on the reader's clock, with the day where it is another. */
export function timeOf(iso) {
  const unix = Date.parse(iso) / 1000;
  if (!Number.isFinite(unix)) return String(iso);
  const day = new Date(unix * 1000);
  const today = new Date();
  const same = day.toDateString() === today.toDateString();
  return same ? clock(unix) : `${day.getFullYear()}-${two(day.getMonth() + 1)}-${two(day.getDate())} ${clock(unix)}`;
}

const two = (n) => String(n).padStart(2, "0");

/** A position as the wire has it, text or parts. */
export const positionOf = (said) => (said && typeof said === "object" ? place(said) : shortPlace(said || ""));
