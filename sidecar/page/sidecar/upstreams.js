// Upstreams and their endpoints: what is sent there, who gets none of it, and why.

import { h } from "./dom.js";
import { count, latency, many, percent, rate } from "./format.js";
import { judge, worse } from "./judge.js";
import { sign } from "./marks.js";
import { button, table } from "./parts.js";
import { quantile, success } from "./rates.js";
import { failures } from "./routes.js";

const list = (value) => (Array.isArray(value) ? value : []);
const SHOWN_ENDPOINTS = 20;

/** Why endpoints were ejected, as the counters of an upstream tell it. */
const EJECTED = {
  ejections_consecutive_5xx: "answers of 5xx in a row",
  ejections_consecutive_gateway_errors: "gateway errors in a row",
  ejections_consecutive_connect_failures: "failed connects in a row",
  ejections_success_rate: "a success rate below the others'",
  ejections_latency: "answers slower than the others'",
  ejections_broken_answers: "answers that are no HTTP",
  ejections_probation: "failures while on probation",
};

/**
 * @param upstreams the answer of `/upstreams`
 * @param flows as `Scrapes.flows`, or null
 * @returns [{name, said, endpoints: [{said, state, severity, why}], flow, severity, why}]
 */
export function upstreamRows(upstreams, flows) {
  return Object.entries(upstreams || {}).map(([name, said]) => {
    const endpoints = list(said?.endpoints).map((one) => ({ said: one, ...stateOf(one) }));
    const out = endpoints.filter((one) => one.isOut).length;
    const flow = flows?.now.upstreams.get(name) || null;
    const verdict = flow?.requests ? judge({ success: success(flow), failed: flow.failed, p99: null }) : { severity: "idle", why: [] };
    let severity = endpoints.length ? worse(verdict.severity, "ok") : "bad";
    const why = [...verdict.why];
    if (!endpoints.length) why.push(emptyWord(said));
    else if (out === endpoints.length) {
      severity = "bad";
      why.push(said.panic ? "no endpoint is well: all are tried (panic)" : "no endpoint is well");
    } else if (out) {
      severity = worse("warn", severity);
      why.push(`${out} of ${endpoints.length} endpoints ${out === 1 ? "gets" : "get"} nothing`);
    }
    if (said?.panic && out < endpoints.length) {
      severity = worse("warn", severity);
      why.push("so few are well that all are tried (panic)");
    }
    return { name, said: said || {}, endpoints, flow, severity, why };
  });
}

function emptyWord(said) {
  if (said?.dns) return `${said.dns} has no address`;
  return said?.discover ? "none was told yet" : "it has no endpoint";
}

/**
 * How an endpoint is, and whether requests are kept from it; each of several workers may see it otherwise, and then the
 * worst is told, and by how many of them.
 */
function stateOf(one) {
  const seen = Object.values(one.by_worker || {});
  if (!seen.length) return stateOfOne(one);
  const states = seen.map(stateOfOne).sort((a, b) => RANKS[a.severity] - RANKS[b.severity]);
  const [worst] = states;
  const same = states.filter((state) => state.word === worst.word).length;
  if (same === states.length) return worst;
  return { severity: "warn", word: `${worst.word}, say ${same} of ${states.length} workers`, isOut: false };
}

function stateOfOne(one) {
  if (one.ejected) return { severity: "bad", word: "ejected", isOut: true };
  if (one.health === "unhealthy") return { severity: "bad", word: "unhealthy", isOut: true };
  if (one.probation) return { severity: "warn", word: "on probation", isOut: false };
  if (one.health === "healthy") return { severity: "ok", word: "healthy", isOut: false };
  return { severity: "ok", word: "in use", isOut: false };
}

const RANKS = { bad: 0, warn: 1, ok: 2 };

export function isLikeUpstream(row, text) {
  return [row.name, ...row.endpoints.map((one) => String(one.said.address))].some((one) => one.toLowerCase().includes(text));
}

/** @param rows of `upstreamRows`, those that are found; @param shown how many of them are drawn */
export function upstreamsSheet(page, rows, shown) {
  const { upstreams, on } = page;
  return [
    h("h2", { key: "title", id: "upstreams-title" }, "Upstreams"),
    !upstreams ? h("p", { key: "none", class: "empty" }, "Asking for the upstreams …") : null,
    upstreams && !rows.length ? h("p", { key: "no", class: "empty" }, page.search ? "No upstream is like that." : "There are no upstreams.") : null,
    rows.length
      ? table(
          "Upstreams",
          ["upstream", "endpoints", "#requests", "#success", "#p50", "#p99", "#active"],
          rows.slice(0, shown).map((row) => cellsOf(row, page)),
        )
      : null,
    rows.length > shown
      ? h("p", { key: "more", class: "more" }, `${shown} of ${rows.length} are shown. `, button("Show 100 more", on.moreUpstreams))
      : null,
  ];
}

function cellsOf({ name, said, endpoints, flow, severity, why }, page) {
  const { flows } = page;
  const from = [said.load_balancing, said.dns ? `by DNS: ${said.dns}` : "", said.discover ? "told by the control plane" : ""];
  return {
    key: name,
    class: `is-${severity}`,
    cells: [
      h(
        "span",
        {},
        h("span", { class: "route-name" }, severity === "ok" || severity === "idle" ? null : sign(severity, ""), h("span", { class: "id" }, name)),
        h("span", { class: "under" }, from.filter(Boolean).join(" · ")),
        why.length ? h("span", { class: "under warn" }, why.join("; ")) : null,
        failures(flow, null), // What the flags mean stands with the routes.
        causes(said.stats || {}).map((text) => h("span", { key: text, class: "under" }, text)),
      ),
      h(
        "ul",
        { class: "endpoints" },
        sorted(endpoints).slice(0, SHOWN_ENDPOINTS).map(endpoint),
        endpoints.length > SHOWN_ENDPOINTS
          ? h("li", { key: "more", class: "under" }, `and ${endpoints.length - SHOWN_ENDPOINTS} more, none of them worse`)
          : null,
      ),
      flows ? rate(flow ? flow.requests / flows.now.seconds : 0) : "–",
      percent(success(flow)),
      latency(quantile(flow, 0.5)),
      latency(quantile(flow, 0.99)),
      count(endpoints.reduce((sum, one) => sum + (one.said.active || 0), 0)),
    ],
  };
}

/** Those that are not well first, where not all can be shown. */
function sorted(endpoints) {
  if (endpoints.length <= SHOWN_ENDPOINTS) return endpoints;
  return [...endpoints].sort((a, b) => RANKS[a.severity] - RANKS[b.severity]);
}

function endpoint({ said, severity, word }) {
  const more = [
    said.zone ? `zone ${said.zone}` : "",
    said.tls ? "TLS" : "",
    Number.isFinite(said.share) && said.share < 1 ? `${percent(said.share)} of its share, for it is new` : "",
    said.active ? `${said.active} active` : "",
    said.shared_connections
      ? `${many(said.streams, "stream")} on ${many(said.shared_connections, "connection")} of HTTP/2`
      : "",
  ];
  return h(
    "li",
    { key: said.address },
    h("span", { class: "id" }, String(said.address)),
    " ",
    sign(severity, word),
    more.some(Boolean) ? h("span", { class: "hint" }, ` ${more.filter(Boolean).join(" · ")}`) : null,
  );
}

/** Since the start: what brought endpoints out, and what failed on the way there. */
function causes(stats) {
  const ejected = Object.entries(EJECTED)
    .filter(([name]) => stats[name])
    .map(([name, text]) => `${count(stats[name])} for ${text}`);
  return [
    stats.ejections ? `ejected ${many(stats.ejections, "time")}${ejected.length ? `: ${ejected.join(", ")}` : ""}` : "",
    stats.health_check_failures ? `${many(stats.health_check_failures, "health check")} failed of ${count(stats.health_checks)}` : "",
    stats.connect_failures ? `${many(stats.connect_failures, "connect")} failed` : "",
  ].filter(Boolean);
}
