// When something hurts, and how much: one rule for a call of the mesh and for a route or an upstream of one sidecar. Pure.

import { latency, percent } from "./format.js";

// It hurts when enough fails: less than this succeeds, and not by one failure alone.
const BAD_SUCCESS = 0.95;
export const WARN_SUCCESS = 0.99;
const BAD_FAILURES = 3;
// It is slow when its p99 is twice what it mostly was in the last hour, and the difference can be felt.
const SLOW_FACTOR = 2;
const SLOW_BY_S = 0.05;

const RANK = { bad: 3, warn: 2, ok: 1, idle: 0 };

export const worse = (a, b) => (RANK[a] >= RANK[b] ? a : b);

/** Whether something hurts, and why; `usual` where it is known. */
export function judge({ success, failed, p99, usual }) {
  const why = [];
  let severity = "ok";
  if (success < BAD_SUCCESS && failed >= BAD_FAILURES) severity = "bad";
  else if (success < WARN_SUCCESS) severity = "warn";
  if (severity !== "ok") why.push(`${percent(1 - success)} fails`);
  if (p99 !== null && usual !== undefined && p99 > SLOW_FACTOR * usual && p99 - usual > SLOW_BY_S) {
    severity = worse("warn", severity);
    why.push(`p99 ${latency(p99)}, mostly ${latency(usual)}`);
  }
  return { severity, why };
}
