// What is told of the service or the call that a person chose.

import { h } from "./dom.js";
import { count, flow, latency, many, octetRate, octets, percent, rate, short, span } from "./format.js";
import { WARN_SUCCESS } from "./judge.js";
import { lockWord, sign } from "./marks.js";
import { button, facts, link, problems, section, splits, table } from "./parts.js";
import { reason } from "./reasons.js";
import { rolloutCard } from "./rollouts.js";

const byName = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
const SLOWEST = 5;
const list = (value) => (Array.isArray(value) ? value : []);

/**
 * @param one a service of the model
 * @param page {model, mesh, now (seconds since 1970, the control plane's), focus, on, answered (the answer of
 *   `/v1/instances` for this service, null while it is asked for, or {error})}
 */
export function serviceDetails(one, page) {
  const { model, on } = page;
  const calls = [...model.edges.values()];
  const into = calls.filter((call) => call.to === one.name);
  const out = calls.filter((call) => call.from === one.name);
  const instances = [...(model.instances.get(one.name) || [])].sort((a, b) => byName(String(a.id), String(b.id)));
  const refused = instances.filter((instance) => instance.refused);
  const answered = new Map(
    (page.answered && Array.isArray(page.answered.instances) ? page.answered.instances : []).map((one) => [one.id, one]),
  );
  return [
    heading("service", one.name || "unknown callers", on, one.severity, one.why.join("; ")),
    h(
      "div",
      { key: "act", class: "acts" },
      button(
        page.focus === one.name ? "Show all services" : "Focus on its neighbours",
        () => on.focus(page.focus === one.name ? null : one.name),
        { "aria-pressed": String(page.focus === one.name) },
      ),
    ),
    section(
      "facts",
      "What it is",
      facts([
        [
          "kind",
          { mesh: "in the mesh", external: "outside of the mesh", unknown: "not a service of the mesh" }[one.kind],
        ],
        ["versions", one.versions.join(", ")],
        ["hosts", one.hosts.join(", ")],
        [
          "instances",
          one.kind === "mesh"
            ? `${one.instances}, of these ${one.healthy} healthy${one.stale ? `, ${one.stale} stale` : ""}`
            : null,
        ],
        [
          "is called",
          into.some((call) => call.requests) ? `${rate(into.reduce((sum, call) => sum + call.rate, 0))}` : null,
        ],
        [
          "no identity",
          one.unidentified ? `${many(one.unidentified, "request")} in the last minute, let in for the time being` : null,
        ],
      ]),
    ),
    one.rollout ? section("rollout", "Rollout", rolloutCard(one.rollout, page)) : null,
    refused.length ? section("refused", "Refused configuration", refusals(refused)) : null,
    instances.length ? section("instances", "Instances", instanceTable(instances, page.now, answered)) : null,
    one.kind === "mesh" && !instances.length
      ? section("none", "Instances", h("p", { class: "empty" }, "No sidecar has reported for this service."))
      : null,
    callerList("Refused callers", into),
    callList("into", "Called by", into, "from", on),
    callList("out", "Calls", out, "to", on),
  ];
}

function heading(kind, title, on, severity, why) {
  return h(
    "header",
    { key: `head ${kind}`, class: "panel-head" },
    h("div", {}, h("p", { class: "kind" }, kind), h("h2", { id: "panel-title", tabindex: "-1" }, title)),
    button("Close", on.close, { class: "button quiet", "aria-label": `Close ${kind} ${title}` }),
    h("p", { class: "verdict" }, sign(severity), why ? h("span", { class: "why" }, why) : null),
  );
}

/** Refusals are told once each, with all the instances that say the same. */
function refusals(instances) {
  const same = new Map();
  for (const instance of instances) {
    const key = JSON.stringify([instance.refused.hash, instance.refused.crashed, instance.refused.problems]);
    if (!same.has(key)) same.set(key, { refused: instance.refused, ids: [] });
    same.get(key).ids.push(String(instance.id));
  }
  return [...same].map(([key, { refused, ids }]) =>
    h(
      "div",
      { key, class: "refusal" },
      h(
        "p",
        {},
        `Revision ${refused.revision} (${short(refused.hash)})${refused.crashed ? ", at which the process ended" : ""}, by ${ids.join(", ")}`,
      ),
      problems(Array.isArray(refused.problems) ? refused.problems : []),
    ),
  );
}

/** Who was refused, by which rule; null where nobody was. */
function callerList(title, calls) {
  const rows = calls.flatMap((call) => call.refusals || []);
  if (!rows.length) return null;
  return section(
    "refusals",
    title,
    table(
      title,
      ["who asked", "rule", "#requests"],
      rows
        .map((row) => ({
          key: JSON.stringify([row.from, row.identity, row.rule, row.audit]),
          class: row.audit ? "" : "is-bad",
          cells: [
            h(
              "span",
              {},
              h("span", { class: "id" }, String(row.from || "unknown callers")),
              h("span", { class: "under" }, row.identity ? String(row.identity) : "without an identity"),
            ),
            h(
              "span",
              {},
              h("code", {}, String(row.rule)),
              h("span", { class: "under" }, row.audit ? "would refuse; in audit" : "refuses"),
            ),
            count(row.count),
          ],
        }))
        .sort((a, b) => byName(a.key, b.key)),
    ),
  );
}

/** How long an instance's certificate is good for, and what is wrong with it. */
function certificate(said, now) {
  if (!said) return null;
  const worries = [said.warning, said.trouble].filter(Boolean);
  return [
    said.not_after > now
      ? h(
          "span",
          { class: `under${said.warning ? " warn" : ""}`, title: said.identity || null },
          `certificate for ${span(said.not_after - now)}`,
        )
      : null,
    worries.map((worry) => h("span", { key: worry, class: "under warn" }, String(worry))),
  ];
}

const STATES = { healthy: "ok", starting: "idle", draining: "idle", stale: "warn", unhealthy: "bad" };

/** What an instance answered in the last minute, and why some of it failed. */
function answers(one) {
  if (!one || !one.requests) return h("span", { class: "under" }, "no requests");
  const why = Object.entries(one.failures || {}).sort((a, b) => b[1] - a[1] || byName(a[0], b[0]));
  return [
    h(
      "span",
      { class: `under whole${one.success < WARN_SUCCESS ? " warn" : ""}` },
      `${rate(one.rate)} · ${percent(one.success)} · p99 ${latency(one.p99_s)}`,
    ),
    why.length
      ? h("span", { class: "under warn" }, `failed: ${why.map(([flag, times]) => `${flag} ${count(times)}`).join(", ")}`)
      : null,
  ];
}

function instanceTable(instances, now, answered) {
  const rows = instances.map((instance) => {
    const config = instance.config || {};
    const wanted = instance.wanted || {};
    const behind = wanted.hash && config.hash !== wanted.hash;
    const state = String(instance.state);
    return {
      key: instance.id,
      class: instance.refused ? "is-bad" : "",
      cells: [
        h(
          "span",
          {},
          h("span", { class: "id" }, String(instance.id)),
          h(
            "span",
            { class: "under" },
            [instance.version, instance.zone, instance.address].filter(Boolean).join(" · "),
          ),
          answers(answered.get(instance.id)),
        ),
        h(
          "span",
          {},
          sign(STATES[state] || "warn", state),
          instance.connected ? null : h("span", { class: "under" }, "stream lost"),
          instance.last_seen
            ? h("span", { class: "under whole" }, `seen ${span(now - instance.last_seen)} ago`)
            : null,
          certificate(instance.certificate, now),
          list(instance.problems).map((problem) =>
            h("span", { key: problem, class: "under warn" }, `not told to others: ${problem}`),
          ),
          instance.endpoints_behind
            ? h("span", { class: "under" }, `${many(instance.endpoints_behind, "list")} of endpoints behind`)
            : null,
        ),
        h(
          "span",
          {},
          `${config.revision ?? "–"}`,
          h("span", { class: "under whole" }, config.hash ? short(config.hash) : "none"),
          config.since ? h("span", { class: "under" }, `for ${span(now - config.since)}`) : null,
          behind ? h("span", { class: "under warn" }, `wanted: ${wanted.revision}`) : null,
          config.source && config.source !== "pushed"
            ? h("span", { class: "under" }, `from ${String(config.source).replace("_", " ")}`)
            : null,
        ),
      ],
    };
  });
  return table("Instances", ["instance", "state", "revision"], rows);
}

function callList(key, title, calls, end, on) {
  if (!calls.length) return null;
  const busy = calls.filter((call) => !call.silent).sort((a, b) => byName(a[end], b[end]));
  const silent = calls
    .filter((call) => call.silent)
    .map((call) => call[end])
    .sort(byName);
  return section(
    key,
    title,
    busy.length
      ? table(
          title,
          ["service", "#requests", "#success", "#p99"],
          busy.map((call) => ({
            key: call.key,
            class: `is-${call.severity}`,
            cells: [
              h(
                "span",
                { class: "row" },
                call.severity === "bad" || call.severity === "warn" ? sign(call.severity, "") : null,
                link(call[end] || "unknown callers", () => on.edge(call.key), `call ${call.from} to ${call.to}`),
              ),
              flow(call),
              percent(call.success),
              latency(call.p99),
            ],
          })),
        )
      : null,
    silent.length
      ? h(
          "p",
          { class: "hint" },
          `Without requests: ${silent.slice(0, 30).join(", ")}${silent.length > 30 ? ` and ${silent.length - 30} more` : ""}`,
        )
      : null,
  );
}

/**
 * @param call a call of the model
 * @param page beside what `serviceDetails` needs: routes (the answer of `/v1/routes` for this call, null while it is
 *   asked for, or {error}), reasons (flag -> [{text, hint}])
 */
export function edgeDetails(call, page) {
  const { on, routes } = page;
  const failures = [...call.failures].sort((a, b) => b[1] - a[1] || byName(a[0], b[0]));
  const octetsOf = (field) => call.rows.reduce((sum, row) => sum + (row[field] || 0), 0);
  return [
    heading("call", `${call.from || "unknown callers"} → ${call.to}`, on, call.severity, call.why.join("; ")),
    h(
      "div",
      { key: "ends", class: "acts" },
      button(call.from || "unknown callers", () => on.service(call.from)),
      button(call.to, () => on.service(call.to)),
    ),
    section(
      "now",
      "In the last minute",
      call.requests
        ? facts([
            ["requests", `${rate(call.rate)} (${count(call.requests)})`],
            ["success", percent(call.success)],
            ["failed", count(call.failed)],
            ["secured", lockWord(call)],
            ["p99", `${latency(call.p99)}${call.usual !== undefined ? `, mostly ${latency(call.usual)}` : ""}`],
            ["body octets", `${octets(octetsOf("request_bytes"))} out, ${octets(octetsOf("response_bytes"))} in`],
          ])
        : call.tcp
          ? null
          : h("p", { class: "empty" }, call.silent ? "Allowed, and no request was seen." : "No requests."),
    ),
    call.tcp ? section("tcp", "As TCP, in the last minute", carried(call.tcp)) : null,
    callerList("Refused", [call]),
    section("routes", "Routes", routeList(routes)),
    call.rows.length
      ? section(
          "rows",
          "By route and version",
          table(
            "By route and version",
            ["route, version", "#requests", "#success", "#p99"],
            [...call.rows]
              .map((row) => ({
                key: JSON.stringify([row.route, row.upstream, row.version]),
                cells: [
                  h(
                    "span",
                    {},
                    h("span", { class: "id" }, row.tcp && !row.requests ? "TCP" : String(row.route || "default")),
                    h("span", { class: "under" }, [row.upstream, row.version].filter(Boolean).join(" · ")),
                  ),
                  flow(row),
                  percent(row.requests ? row.success : null),
                  percentiles(row),
                ],
              }))
              .sort((a, b) => byName(a.key, b.key)),
          ),
        )
      : null,
    failures.length
      ? section(
          "failures",
          "Why requests failed",
          h(
            "ul",
            { class: "reasons" },
            failures.map(([flag, times]) => reason(flag, times, page.reasons)),
          ),
        )
      : null,
    section("slowest", "Slowest instances", slowest(routes)),
  ];
}

/** Connections that carry no requests, or none that anybody can see. */
function carried(tcp) {
  return facts([
    ["connections", `${rate(tcp.rate)} (${count(tcp.connections)} ended)`],
    ["of these failed", count(tcp.failed)],
    ["octets", `${octets(tcp.received_bytes)} out, ${octets(tcp.sent_bytes)} in (${octetRate(tcp)})`],
  ]);
}

function routeList(routes) {
  if (routes === null || routes === undefined) return h("p", { class: "empty" }, "Asking for the routes …");
  if (routes.error) return h("p", { class: "empty" }, `The routes cannot be told now: ${routes.error}.`);
  const list = Array.isArray(routes.routes) ? routes.routes : [];
  if (!list.length) return h("p", { class: "empty" }, "No route leads here.");
  return h(
    "ol",
    { class: "routes" },
    list.map((route, i) => {
      const to = Array.isArray(route.to) ? route.to : [];
      return h(
        "li",
        { key: `${route.name} ${i}` },
        h(
          "p",
          { class: "route-name" },
          h("span", { class: "id" }, String(route.name || "default")),
          route.origin ? h("code", { class: "place" }, String(route.origin)) : null,
        ),
        h("p", { class: "match" }, String(route.match || "every request")),
        splits(to),
      );
    }),
  );
}

function percentiles({ p50_s, p99_s }) {
  return h("span", {}, latency(p99_s), h("span", { class: "under" }, `p50 ${latency(p50_s)}`));
}

function slowest(routes) {
  const list = routes && Array.isArray(routes.instances) ? routes.instances : null;
  if (!list) return h("p", { class: "empty" }, routes ? "Not told by the control plane." : "Asking …");
  if (!list.length) return h("p", { class: "empty" }, "No instance got a request in the last minute.");
  const rows = [...list]
    .sort((a, b) => (b.p99_s || 0) - (a.p99_s || 0) || byName(String(a.id), String(b.id)))
    .slice(0, SLOWEST);
  return table(
    "Slowest instances",
    ["instance", "#requests", "#success", "#p99"],
    rows.map((one) => ({
      key: one.id,
      cells: [
        h(
          "span",
          {},
          h("span", { class: "id" }, String(one.id)),
          h("span", { class: "under" }, [one.version, one.zone].filter(Boolean).join(" · ")),
        ),
        rate(one.rate),
        percent(one.success),
        percentiles(one),
      ],
    })),
  );
}

/** The calls between two groups of services. */
export function callsDetails(call, page) {
  const calls = [...call.of].sort((a, b) => byName(a.key, b.key));
  return [
    heading(
      "calls",
      `${call.from.replace("\u0000", "")} → ${call.to.replace("\u0000", "")}`,
      page.on,
      call.severity,
      "",
    ),
    section(
      "calls",
      many(calls.length, "call"),
      table(
        "Calls",
        ["call", "#requests", "#success", "#p99"],
        calls.map((one) => ({
          key: one.key,
          class: `is-${one.severity}`,
          cells: [
            link(`${one.from} → ${one.to}`, () => page.on.edge(one.key)),
            flow(one),
            percent(one.success),
            latency(one.p99),
          ],
        })),
      ),
    ),
  ];
}
