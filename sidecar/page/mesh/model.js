// What the control plane says, made into what is drawn: services and the calls between them, and what hurts. Pure.
//
// Nothing is required of an answer: what an older control plane leaves out is taken for empty, and what a newer one adds
// is not looked at.

import { edgeKey } from "./layout.js";
import { many } from "./format.js";
import { judge, worse } from "./judge.js";

const SLOW_MINUTES = 10; // Of the last hour, from which on it can be said what a p99 mostly is.

const GROUP = "\u0000"; // No service's name has it.

const list = (value) => (Array.isArray(value) ? value : []);
const number = (value) => (Number.isFinite(value) ? value : 0);
const byName = (a, b) => (a < b ? -1 : a > b ? 1 : 0);

/**
 * @param mesh the answer of `/v1/mesh`
 * @param history the answer of `/v1/history`, or null
 * @param seen keys of calls that were seen since the page was opened; grows, so that a call that rests stays in its place
 * @returns services by name, calls by key, instances by service, and strangers: services that a sidecar says to be of, and
 *   the mesh has no file for; they are not on the map, which is the mesh's
 */
export function modelOf(mesh, history, seen) {
  const services = new Map();
  for (const said of list(mesh.services)) services.set(String(said.name), service(said));
  const mine = new Set(services.keys());
  const usual = usualP99(history);
  const rows = new Map();
  for (const row of list(mesh.edges)) {
    const key = edgeKey(String(row.from), String(row.to));
    if (!rows.has(key)) rows.set(key, []);
    rows.get(key).push(row);
  }
  const refused = new Map();
  for (const row of list(mesh.refused)) {
    const key = edgeKey(String(row.from), String(row.to));
    if (!rows.has(key)) rows.set(key, []);
    if (!refused.has(key)) refused.set(key, []);
    refused.get(key).push(row);
  }
  for (const key of [
    ...rows.keys(),
    ...list(history && history.edges).map((row) => edgeKey(String(row.from), String(row.to))),
  ])
    seen.add(key);
  const edges = new Map();
  for (const key of [...seen].sort(byName)) {
    const [from, to] = JSON.parse(key);
    // A service that left the mesh leaves the map, once nobody calls it or is called by it any more.
    if (!rows.has(key) && !(mine.has(from) && mine.has(to))) continue;
    edges.set(key, withRefusals(edge(key, from, to, rows.get(key) || [], usual.get(key)), refused.get(key) || []));
    for (const name of [from, to]) if (!services.has(name)) services.set(name, service({ name, kind: "unknown" }));
  }
  for (const { name, callees } of [...services.values()]) {
    for (const to of callees) {
      const key = edgeKey(name, to);
      if (!edges.has(key) && services.has(to)) edges.set(key, { ...edge(key, name, to, [], undefined), silent: true });
    }
  }
  for (const call of edges.values()) call.mutual = services.get(call.to).kind !== "external";
  const instances = new Map();
  for (const instance of list(mesh.instances).filter((one) => !isGone(one))) {
    const name = String(instance.service);
    if (!instances.has(name)) instances.set(name, []);
    instances.get(name).push(instance);
  }
  for (const rollout of list(mesh.rollouts)) {
    const of = services.get(String(rollout.service));
    if (of) addRollout(of, rollout);
  }
  const strangers = [...instances.keys()].filter((name) => !mine.has(name)).sort(byName);
  return { services, edges, instances, strangers };
}

/** It said goodbye and ended: a control plane remembers it for a while, and nobody misses it. */
export const isGone = (instance) => instance.state === "draining" && !instance.connected;

function service(said) {
  const kind = said.kind === "external" || said.kind === "unknown" ? said.kind : "mesh";
  const made = {
    name: String(said.name),
    kind,
    versions: list(said.versions).map(String),
    hosts: list(said.hosts).map(String),
    callees: list(said.callees).map(String),
    instances: number(said.instances),
    healthy: number(said.healthy),
    stale: number(said.stale),
    refused: number(said.refused),
    unidentified: number(said.unidentified),
    severity: "ok",
    why: [],
    rollout: null,
  };
  if (kind !== "mesh") return { ...made, severity: "idle" };
  const say = (severity, text) => {
    made.severity = worse(severity, made.severity);
    made.why.push(text);
  };
  if (made.instances === 0) say("idle", "no instance");
  else if (made.healthy === 0) say("bad", "no healthy instance");
  else if (made.healthy < made.instances) say("warn", `${many(made.instances - made.healthy, "instance")} not healthy`);
  if (made.refused) say("bad", `${many(made.refused, "instance")} refused the configuration`);
  if (made.stale) say("warn", `${many(made.stale, "instance")} stale`);
  if (made.instances === 0) made.severity = "idle";
  return made;
}

function addRollout(of, rollout) {
  of.rollout = rollout;
  if (rollout.state === "halted") {
    of.severity = "bad";
    of.why.push("rollout halted");
  }
}

function edge(key, from, to, rows, usual) {
  const made = {
    key,
    from,
    to,
    rows,
    rate: 0,
    requests: 0,
    failed: 0,
    success: null,
    p99: null,
    failures: new Map(),
    tls: tlsOf(rows.map((row) => row.tls)),
    tcp: null,
    refusals: [],
    refused: 0,
    severity: "idle",
    why: [],
    usual,
  };
  for (const row of rows) {
    const requests = number(row.requests);
    made.requests += requests;
    made.rate += number(row.rate);
    if (row.tcp) made.tcp = both(made.tcp, row.tcp);
    made.failed += requests * (1 - (Number.isFinite(row.success) ? row.success : 1));
    // Percentiles cannot be added up: of several routes, the slowest is told.
    if (requests && Number.isFinite(row.p99_s)) made.p99 = Math.max(made.p99 || 0, row.p99_s);
    for (const [reason, times] of Object.entries(row.failures || {}))
      made.failures.set(reason, (made.failures.get(reason) || 0) + number(times));
  }
  made.failed = Math.round(made.failed);
  if (made.tcp) Object.assign(made, judge(lossOf(made.tcp)));
  if (!made.requests) return made;
  // Of a caller that tells nothing itself, nobody knows how its calls ended.
  if (rows.every((row) => row.success === null)) return Object.assign(made, { severity: worse("ok", made.severity) });
  made.success = 1 - made.failed / made.requests;
  const { severity, why } = judge(made);
  return Object.assign(made, { severity: worse(severity, made.severity), why: [...why, ...made.why] });
}

const CARRIED = ["rate", "octet_rate", "connections", "failed", "received_bytes", "sent_bytes"];

/** What two rows carried that is no HTTP; either may be null. */
function both(a, b) {
  if (!a && !b) return null;
  return Object.fromEntries(CARRIED.map((name) => [name, number(a && a[name]) + number(b && b[name])]));
}

/** Of its connections, what `judge` asks; whoever has none that is over has lost none. */
function lossOf({ connections, failed }) {
  return { success: connections ? 1 - failed / connections : 1, failed, p99: null };
}

/** Of several: `all` or `none` where all that say it agree, else `some`; null where none does. */
function tlsOf(parts) {
  const said = new Set(parts.filter((one) => ["all", "some", "none"].includes(one)));
  return said.size > 1 ? "some" : said.size ? [...said][0] : null;
}

/** Whom rules of authorization refuse hurts; whom they would, is to be looked at before they do. */
function withRefusals(call, rows) {
  const sum = (audit) =>
    rows.filter((row) => Boolean(row.audit) === audit).reduce((total, row) => total + number(row.count), 0);
  const [refused, would] = [sum(false), sum(true)];
  call.refusals = rows;
  call.refused = refused;
  if (refused) {
    call.severity = "bad";
    call.why.unshift(`${many(refused, "request")} refused by rule ${rulesOf(rows, false)}`);
  }
  if (would) {
    call.severity = worse("warn", call.severity);
    call.why.push(`${many(would, "request")} would be refused by rule ${rulesOf(rows, true)}`);
  }
  return call;
}

const rulesOf = (rows, audit) =>
  [...new Set(rows.filter((row) => Boolean(row.audit) === audit).map((row) => String(row.rule)))].sort(byName).join(", ");

/** The median p99 of each call's minutes of the last hour, where there are enough to say. */
function usualP99(history) {
  const usual = new Map();
  for (const row of list(history && history.edges)) {
    const values = list(row.p99_s)
      .filter(Number.isFinite)
      .sort((a, b) => a - b);
    if (values.length >= SLOW_MINUTES) usual.set(edgeKey(String(row.from), String(row.to)), values[values.length >> 1]);
  }
  return usual;
}

/** Services in groups: by the part of the name before its first point, or, where no name has one, by the number of calls from the outermost callers. */
export function groupsOf(model) {
  const names = [...model.services.keys()];
  if (names.some((name) => name.includes("."))) {
    return new Map(
      names.map((name) => [name, name.includes(".") ? name.slice(0, name.indexOf(".")) : "(no namespace)"]),
    );
  }
  const edges = [...model.edges.values()].filter((call) => call.from !== call.to && !call.silent);
  const called = new Set(edges.map((call) => call.to));
  const hops = new Map(names.filter((name) => !called.has(name)).map((name) => [name, 0]));
  if (!hops.size && names.length) hops.set([...names].sort(byName)[0], 0);
  let front = [...hops.keys()];
  for (let hop = 1; front.length; hop += 1) {
    const reached = edges.filter((call) => front.includes(call.from) && !hops.has(call.to)).map((call) => call.to);
    front = [...new Set(reached)];
    for (const name of front) hops.set(name, hop);
  }
  const label = (hop) => (hop === undefined ? "reached from a circle only" : hop === 0 ? "entry" : many(hop, "hop"));
  return new Map(names.map((name) => [name, label(hops.get(name))]));
}

/**
 * The part of the model that is drawn.
 * @param options `silent` (also calls without traffic), `focus` (a service: only it and its neighbours, or null),
 *   `grouped`, `open` (labels of the groups whose services are drawn)
 */
export function viewOf(model, { silent, focus, grouped, open }) {
  let edges = [...model.edges.values()].filter((call) => silent || !call.silent);
  let services = [...model.services.values()];
  if (focus !== null && model.services.has(focus)) {
    const near = new Set([focus]);
    for (const call of edges) {
      if (call.from === focus) near.add(call.to);
      if (call.to === focus) near.add(call.from);
    }
    services = services.filter((one) => near.has(one.name));
    edges = edges.filter((call) => near.has(call.from) && near.has(call.to));
  }
  if (!grouped || focus !== null) return { nodes: services.map((one) => ({ id: one.name, service: one })), edges };
  const groups = groupsOf(model);
  const idOf = (name) => (open.has(groups.get(name)) ? name : GROUP + groups.get(name));
  const nodes = new Map();
  for (const one of services) {
    const id = idOf(one.name);
    if (id === one.name) nodes.set(id, { id, service: one });
    else if (nodes.has(id)) nodes.get(id).members.push(one);
    else nodes.set(id, { id, group: groups.get(one.name), members: [one] });
  }
  const merged = new Map();
  for (const call of edges) {
    const [from, to] = [idOf(call.from), idOf(call.to)];
    if (from === to && from.startsWith(GROUP)) continue;
    const key = edgeKey(from, to);
    merged.set(key, merged.has(key) ? sum(merged.get(key), call) : { ...call, key, from, to, of: [call] });
  }
  return { nodes: [...nodes.values()], edges: [...merged.values()] };
}

function sum(a, b) {
  const made = {
    ...a,
    of: [...a.of, b],
    rate: a.rate + b.rate,
    requests: a.requests + b.requests,
    failed: a.failed + b.failed,
  };
  made.silent = a.silent && b.silent;
  made.tcp = both(a.tcp, b.tcp);
  made.tls = tlsOf([a.tls, b.tls]);
  made.mutual = a.mutual && b.mutual;
  made.refused = a.refused + b.refused;
  made.refusals = [...a.refusals, ...b.refusals];
  made.success = made.requests ? 1 - made.failed / made.requests : null;
  made.p99 = Math.max(a.p99 || 0, b.p99 || 0) || null;
  made.severity = worse(a.severity, b.severity);
  made.why = [...a.why, ...b.why];
  return made;
}

/** The services whose names, hosts or versions have the text in them; null: no text, so all. */
export function matches(model, text) {
  const wanted = text.trim().toLowerCase();
  if (!wanted) return null;
  const has = (words) => words.some((word) => word.toLowerCase().includes(wanted));
  return [...model.services.values()]
    .filter((one) => has([one.name, ...one.hosts, ...one.versions]))
    .map((one) => one.name)
    .sort(byName);
}
