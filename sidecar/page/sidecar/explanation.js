// What the sidecar decides for a request, and why, as a person reads it. Nothing is required of what is said: of a key that
// is not there, its part is left out.

import { h } from "./dom.js";
import { count, latency, many, percent } from "./format.js";
import { sign } from "./marks.js";
import { bar, facts, section, table } from "./parts.js";
import { shortPlace, timeOf } from "./routes.js";

const list = (value) => (Array.isArray(value) ? value : []);
const isObject = (value) => value !== null && typeof value === "object";

/** Any value of JSON as a person writes it. */
export function valueOf(value) {
  if (value === null || value === undefined) return "none";
  if (value === true || value === false) return value ? "yes" : "no";
  if (Array.isArray(value)) return value.length ? value.map(valueOf).join(", ") : "none";
  if (isObject(value)) return Object.entries(value).map(([key, one]) => `${key}: ${valueOf(one)}`).join(", ");
  return String(value);
}

const DURATION = /(?:timeout|interval|time|delay|max_age|slow_start|duration|lag|window)$/;

/** A setting with its unit: durations are seconds. */
export function settingOf(name, value) {
  if (typeof value === "number" && DURATION.test(name)) return `${value} s`;
  if (isObject(value) && !Array.isArray(value))
    return Object.entries(value).map(([key, one]) => `${key}: ${settingOf(key, one)}`).join(", ");
  return valueOf(value);
}

/** @param said the answer of `/explain` */
export function explanation(said) {
  return [
    outcome(said),
    missing(said.missing),
    request(said.request),
    happened(said.happened, said.outcome),
    authorization(said.authorization),
    routes(list(said.routes)),
    split(said.split),
    endpoints(said.endpoint),
    sent(said.sent),
    settings(said.settings),
  ];
}

const OUTCOMES = {
  forward: ["ok", "forwarded"],
  redirect: ["ok", "redirected"],
  respond: ["ok", "answered by the sidecar"],
  refused: ["bad", "refused"],
};

function outcome({ outcome: it, split: divided }) {
  if (!isObject(it)) return null;
  const [severity, word] = OUTCOMES[it.kind] || ["warn", String(it.kind)];
  const taken = list(divided?.sides).find((side) => side.is_taken);
  const one = taken || (list(divided?.sides).length === 1 ? divided.sides[0] : null);
  return h(
    "div",
    { key: "outcome", class: `outcome is-${severity}` },
    h(
      "p",
      {},
      sign(severity, word),
      it.status ? ` with ${it.status}` : null,
      it.flag && it.flag !== "-" ? h("code", {}, ` ${it.flag}`) : null,
      it.kind === "redirect" && it.why ? [" to ", h("code", {}, String(it.why))] : null,
      it.route ? [" by route ", h("span", { class: "id" }, String(it.route))] : null,
      one ? [" to ", h("span", { class: "id" }, String(one.upstream))] : null,
      it.kind === "forward" && divided && !one ? `, to one of ${list(divided.sides).length} by chance` : null,
      it.position ? place(it.position) : null,
    ),
    it.why && it.kind !== "redirect" ? h("p", { class: "why" }, String(it.why)) : null,
  );
}

function place(position) {
  return [" ", h("code", { class: "place", title: String(position) }, shortPlace(position))];
}

function request(it) {
  if (!isObject(it)) return null;
  const host = it.port ? `${it.host}:${it.port}` : it.host;
  return section(
    "request",
    "The request",
    facts([
      ["request", h("code", {}, `${it.method || ""} ${host || ""}${it.path || ""}${it.query ? `?${it.query}` : ""}`)],
      ["direction", it.direction === "inbound" ? "to the app" : it.direction === "outbound" ? "from the app" : it.direction],
      ["from", [it.source_ip, it.identity].filter(Boolean).join(", ")],
    ]),
  );
}

const DECISIONS = {
  allowed: ["ok", "allowed"],
  denied: ["bad", "denied"],
  audit_denied: ["warn", "passes, and would be denied without audit"],
};

function authorization(it) {
  if (!isObject(it)) return null;
  const [severity, word] = DECISIONS[it.outcome] || ["warn", String(it.outcome ?? "")];
  return section(
    "authorization",
    "Authorization",
    h(
      "p",
      {},
      sign(severity, word),
      it.rule ? [" by rule ", h("span", { class: "id" }, String(it.rule))] : null,
      it.position ? place(it.position) : null,
    ),
    it.why ? h("p", { class: "why" }, String(it.why)) : null,
  );
}

const RESULTS = { taken: "ok" };

function routes(some) {
  if (!some.length) return null;
  return section(
    "routes",
    "Routes, in their order",
    h(
      "ol",
      { class: "asked" },
      some.map((route, i) =>
        h(
          "li",
          { key: `${route.index ?? i} ${route.name}`, class: route.result === "taken" ? "is-taken" : "" },
          h(
            "p",
            { class: "route-name" },
            sign(RESULTS[route.result] || "idle", ""),
            h("span", { class: "id" }, String(route.name || "(without a name)")),
            h("span", { class: "hint" }, `${route.count > 1 ? `${many(route.count, "route")}, ` : ""}${route.result ?? ""}`),
            route.position ? place(route.position) : null,
          ),
          list(route.matches).length ? h("ul", {}, list(route.matches).map(miss)) : null,
          isObject(route.missed_at) ? h("p", { class: "hint" }, `at ${missedAt(route.missed_at)}`) : null,
        ),
      ),
    ),
  );
}

/** Of several routes, at which questions they were missed, and how many at each. */
function missedAt(said) {
  const parts = Object.entries(said);
  return parts.map(([part, times]) => (parts.length === 1 ? part : `${part} ${count(times)}`)).join(", ");
}

function miss(one, i) {
  if (!isObject(one)) return h("li", { key: i }, String(one));
  const found = one.found === null || one.found === undefined ? "found nothing" : `found ${valueOf(one.found)}`;
  return h(
    "li",
    { key: i },
    h("span", { class: "id" }, String(one.part ?? "")),
    ` ${one.expected ?? ""}`,
    h("span", { class: "found-value" }, `, ${found}`),
  );
}

function split(it) {
  if (!isObject(it) || !list(it.sides).length) return null;
  return section(
    "split",
    "Split",
    it.sticky
      ? h("p", { class: "why" }, `sticky by ${it.sticky}${it.key === null ? ", which the request has not: by chance" : `: ${it.key}`}`)
      : null,
    h(
      "ul",
      { class: "splits" },
      list(it.sides).map((side, i) =>
        h(
          "li",
          { key: `${side.upstream} ${i}` },
          h("span", { class: "id" }, String(side.upstream), side.is_taken ? h("span", { class: "taken" }, sign("ok", "taken")) : null),
          bar(side.share, `${percent(side.share)}${side.note ? ` – ${side.note}` : ""}`, side.is_taken ? "falls" : ""),
        ),
      ),
    ),
  );
}

function endpoints(it) {
  if (!isObject(it)) return null;
  const some = list(it.endpoints);
  return section(
    "endpoint",
    it.upstream ? `Endpoint of ${it.upstream}` : "Endpoint",
    h(
      "p",
      {},
      it.would_take ? ["now ", h("span", { class: "id" }, String(it.would_take))] : some.length ? "by chance" : "none is known",
      it.balancer ? h("span", { class: "hint" }, `, balancer ${it.balancer}`) : null,
      it.source ? h("span", { class: "under" }, `from ${it.source}`) : null,
      it.panic ? h("span", { class: "under warn" }, "so few are well that all are tried (panic)") : null,
    ),
    some.length
      ? h(
          "ul",
          { class: "endpoints" },
          some.map((one) =>
            h(
              "li",
              { key: one.address },
              h("span", { class: "id" }, String(one.address)),
              " ",
              sign(one.state === "in" ? "ok" : "bad", one.state === "in" ? chanceOf(one) : String(one.state ?? "")),
              one.why ? h("span", { class: "hint" }, ` ${one.why}`) : null,
            ),
          ),
        )
      : null,
  );
}

const chanceOf = ({ chance }) => (Number.isFinite(chance) && chance < 1 ? `gets ${percent(chance)}` : "in use");

const LINES = { "+": ["is-added", "added: "], "-": ["is-gone", "removed: "] };

function sent(it) {
  const lines = list(it?.lines);
  if (!lines.length) return null;
  return section(
    "sent",
    it.upstream ? `What is sent to ${it.upstream}` : "What is sent",
    h(
      "ul",
      { class: "sent" },
      lines.map(([mark, text], i) => {
        const [kind, word] = LINES[mark] || ["", ""];
        return h(
          "li",
          { key: i, class: kind },
          h("span", { class: "mark-text", "aria-hidden": "true" }, mark === " " ? "\u00a0" : String(mark)),
          word ? h("span", { class: "unseen" }, word) : null,
          h("code", {}, String(text ?? "")),
        );
      }),
    ),
  );
}

/** What somebody has written, and, folded, what is so by default. */
function settings(it) {
  const rows = isObject(it) ? Object.entries(it) : [];
  if (!rows.length) return null;
  const written = rows.filter(([, said]) => isObject(said) && said.from && said.from !== "default");
  const others = rows.filter((row) => !written.includes(row));
  return section(
    "settings",
    "Settings in force",
    written.length ? settingTable("Settings that are written", written) : null,
    others.length
      ? h(
          "details",
          { key: "default" },
          h("summary", {}, written.length ? `and ${others.length} more by default` : `all ${others.length} by default`),
          settingTable("Settings by default", others),
        )
      : null,
  );
}

function settingTable(caption, rows) {
  return table(
    caption,
    ["setting", "value", "from"],
    rows.map(([name, said]) => ({
      key: name,
      cells: [
        name,
        settingOf(name, isObject(said) && "value" in said ? said.value : said),
        h("span", { title: isObject(said) ? said.from : null }, isObject(said) && said.from ? shortPlace(said.from) : ""),
      ],
    })),
  );
}

/** Of a request that was kept, what was not. */
function missing(some) {
  if (!list(some).length) return null;
  return section(
    "missing",
    "Not all of it was kept",
    h("ul", {}, list(some).map((text) => h("li", { key: text }, String(text)))),
    h("p", { class: "hint" }, "What asks for these may be told wrongly. Name it below telemetry.recent_requests to have it kept."),
  );
}

/** What really became of a request, and whether the decision would be another one by now. */
function happened(it, decided) {
  if (!isObject(it)) return null;
  const flag = it.flag && it.flag !== "-" ? it.flag : "";
  const status = [it.status, it.grpc_status ?? "", flag].filter((one) => one !== "" && one !== null);
  const other = isObject(decided) && (it.route || null) !== (decided.route || null);
  return section(
    "happened",
    "What happened to it",
    other
      ? h("p", { key: "other", class: "warn" }, `It took ${it.route || "no route"} then; it would take ${decided.route || "none"} now.`)
      : null,
    facts([
      ["when", it.time ? timeOf(it.time) : null],
      ["answered", status.join(" ")],
      ["sent to", [it.upstream, it.endpoint].filter(Boolean).join(", ")],
      ["attempts", it.attempts],
      ["took", Number.isFinite(it.duration_ms) ? latency(it.duration_ms / 1000) : null],
      ["request id", it.request_id ? h("code", {}, String(it.request_id)) : null],
    ]),
  );
}
