// What happened between two scrapes of `/metrics`: rates, success and latency by route and upstream, as `sidecar top` has
// them. Pure.

const REQUESTS = "sidecar_requests_total{";
const CALLS = "sidecar_grpc_requests_total{";
const DURATIONS = {
  "http_server_request_duration_seconds_bucket{": "inbound",
  "http_client_request_duration_seconds_bucket{": "outbound",
};
const CLIENT_LEFT = 499;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

/** By which the parts of a row are told apart; nobody's name has it. */
const keyOf = (...parts) => parts.join("\u0000");

/**
 * A scrape, of which only what is needed is read.
 * @param at when, in seconds, by a clock that never goes back
 * @returns {at, counts: series -> {direction, route, upstream, code, flag, value}, or of calls of gRPC {..., flag,
 *   call, countsAs, value}, buckets: direction, route, upstream -> upper bound -> how many at most that}
 */
export function readScrape(text, at) {
  const counts = new Map();
  const buckets = new Map();
  for (const line of text.split("\n")) {
    if (line.startsWith(REQUESTS)) {
      const labels = labelsOf(line);
      const { direction = "", route = "", upstream = "", code = "", flag = "" } = labels;
      const key = keyOf(direction, route, upstream, code, flag);
      counts.set(key, { direction, route, upstream, code, flag, value: valueOf(line) });
    } else if (line.startsWith(CALLS)) {
      const labels = labelsOf(line);
      const { direction = "", route = "", upstream = "", code = "", flag = "", grpc_status: call = "" } = labels;
      const key = keyOf(CALLS, direction, route, upstream, code, flag, call);
      const countsAs = labels.counts_as ?? code;
      counts.set(key, { direction, route, upstream, code, flag, call, countsAs, value: valueOf(line) });
    } else if (line.startsWith("http_")) {
      const prefix = Object.keys(DURATIONS).find((one) => line.startsWith(one));
      if (!prefix) continue;
      const labels = labelsOf(line);
      const key = keyOf(DURATIONS[prefix], labels.http_route || "", labels.upstream || "");
      if (!buckets.has(key)) buckets.set(key, new Map());
      const bound = labels.le === "+Inf" ? Infinity : Number(labels.le);
      const some = buckets.get(key);
      some.set(bound, (some.get(bound) || 0) + valueOf(line));
    }
  }
  return { at, counts, buckets };
}

function labelsOf(line) {
  const labels = {};
  for (const [, name, value] of line.matchAll(LABEL)) labels[name] = value.includes("\\") ? unescaped(value) : value;
  return labels;
}

const unescaped = (value) => value.replace(/\\(.)/g, (_, letter) => (letter === "n" ? "\n" : letter));

/** After the labels, and before an exemplar (` # {...}`) that OpenMetrics may have there. */
const valueOf = (line) => Number(line.slice(line.lastIndexOf("} ", endOf(line)) + 2, endOf(line)).split(" ")[0]);

function endOf(line) {
  const exemplar = line.indexOf(" # {");
  return exemplar < 0 ? line.length : exemplar;
}

/**
 * What happened from one scrape to a later one of the same process.
 * @returns {seconds, totals, routes, upstreams, parts}: flows by direction, by direction and route (`routeKey`), by
 *   upstream, and by direction, route and upstream (`partKey`)
 */
export function between(earlier, later) {
  const made = {
    seconds: later.at - earlier.at,
    totals: new Map(),
    routes: new Map(),
    upstreams: new Map(),
    parts: new Map(),
  };
  for (const [key, one] of later.counts) {
    const times = risen(one.value, earlier.counts.get(key)?.value);
    if (!times) continue;
    for (const flow of flowsOf(made, one.direction, one.route, one.upstream)) add(flow, one, times);
  }
  for (const [key, bounds] of later.buckets) {
    const [direction, route, upstream] = key.split("\u0000");
    const before = earlier.buckets.get(key);
    const flows = flowsOf(made, direction, route, upstream);
    for (const [bound, value] of bounds) {
      const times = risen(value, before?.get(bound));
      for (const flow of flows) flow.buckets.set(bound, (flow.buckets.get(bound) || 0) + times);
    }
  }
  return made;
}

export const routeKey = (direction, route) => keyOf(direction, route);
export const partKey = (direction, route, upstream) => keyOf(direction, route, upstream);

/** A counter that went back began anew, as Prometheus' rate() has it. */
function risen(value, before = 0) {
  return value < before ? value : value - before;
}

function flowsOf(made, direction, route, upstream) {
  const flows = [
    flowIn(made.totals, direction),
    flowIn(made.routes, routeKey(direction, route)),
    flowIn(made.parts, partKey(direction, route, upstream)),
  ];
  if (upstream) flows.push(flowIn(made.upstreams, upstream));
  return flows;
}

function flowIn(flows, key) {
  let flow = flows.get(key);
  if (!flow) flows.set(key, (flow = { requests: 0, failed: 0, refused: 0, left: 0, flags: new Map(), buckets: new Map() }));
  return flow;
}

function add(flow, { code, flag, call, countsAs }, times) {
  const why = flag && flag !== "-" ? flag : call ?? "5xx";
  if (call === undefined) {
    flow.requests += times;
    judge(flow, code, why, times);
  } else if (countsAs !== code) judge(flow, countsAs, why, times); // A request already, as one of this code.
}

function judge(flow, code, why, times) {
  const status = /^\d+$/.test(code) ? Number(code) : 0;
  if (status >= 500) {
    flow.failed += times;
    flow.flags.set(why, (flow.flags.get(why) || 0) + times);
  } else if (status === CLIENT_LEFT) flow.left += times;
  else if (status >= 400) flow.refused += times;
}

/** Flows of which there were several, as one. */
export function sum(flows) {
  const all = { requests: 0, failed: 0, refused: 0, left: 0, flags: new Map(), buckets: new Map() };
  for (const flow of flows) {
    for (const field of ["requests", "failed", "refused", "left"]) all[field] += flow[field];
    for (const field of ["flags", "buckets"])
      for (const [key, times] of flow[field]) all[field].set(key, (all[field].get(key) || 0) + times);
  }
  return all;
}

/** Share of requests without a status of 500 or more, or what stands for it of gRPC; null if there was none. */
export function success(flow) {
  // A call may have ended between the two lines of a scrape that tell of it.
  return flow && flow.requests ? 1 - Math.min(1, flow.failed / flow.requests) : null;
}

/**
 * A quantile of a flow's latency in seconds, as Prometheus' `histogram_quantile` gives it: linear within the bucket, the
 * first of which begins at 0, and never above the highest finite bound; null where nothing was observed.
 */
export function quantile(flow, share) {
  const ordered = flow ? [...flow.buckets].sort((a, b) => a[0] - b[0]) : [];
  if (ordered.length < 2) return null;
  const [last, all] = ordered[ordered.length - 1];
  if (last !== Infinity || !(all > 0)) return null;
  const highest = ordered[ordered.length - 2][0];
  let [lower, below] = [0, 0];
  for (const [bound, times] of ordered) {
    if (times >= share * all) {
      if (bound === Infinity) return highest;
      return times <= below ? lower : lower + ((bound - lower) * (share * all - below)) / (times - below);
    }
    lower = bound;
    below = Math.max(below, times);
  }
  return highest;
}

/**
 * Scrapes of the last minute: what is told as "now" is of the last ten seconds, a split is of all of them, for of few
 * requests a split says little.
 */
export class Scrapes {
  constructor(nowS = 10, longS = 60) {
    this.nowS = nowS;
    this.longS = longS;
    this.kept = [];
  }

  /** A process that ended counts no more. */
  forget() {
    this.kept = [];
  }

  add(scrape) {
    this.kept.push(scrape);
    while (this.kept.length > 2 && scrape.at - this.kept[1].at >= this.longS) this.kept.shift();
    // Of the older ones only counts are looked at.
    for (const one of this.kept) if (scrape.at - one.at > 2 * this.nowS) one.buckets = new Map();
  }

  /** @returns {now, long}, each as `between`; null before there are two scrapes */
  flows() {
    const { kept } = this;
    if (kept.length < 2) return null;
    const last = kept[kept.length - 1];
    const recent = kept.findIndex((one) => last.at - one.at <= this.nowS);
    const from = Math.min(recent < 0 ? kept.length - 2 : recent, kept.length - 2);
    return { now: between(kept[from], last), long: between(kept[0], { ...last, buckets: new Map() }) };
  }
}
