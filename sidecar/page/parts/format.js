// Numbers, times and places as a person reads them. Pure.

/** Requests a second; what is more than nothing is never shown as nothing. */
export function rate(perSecond) {
  if (!(perSecond > 0)) return "0/s";
  if (perSecond < 0.1) return "<0.1/s";
  if (perSecond < 10) return `${perSecond.toFixed(1)}/s`;
  return `${count(Math.round(perSecond))}/s`;
}

/** How busy a call is, or a row of one: requests a second; of one without requests, connections that ended, if any did. */
export function flow(call) {
  if (call.requests || !call.tcp) return rate(call.rate);
  return call.tcp.rate > 0 ? `${rate(call.tcp.rate)} TCP` : "TCP";
}

/** Octets a second, in both directions together. */
export function octetRate(tcp) {
  return `${octets(tcp.octet_rate)}/s`;
}

/** A share of 1 as percent: what is less than all is never rounded to all, and more than nothing never to nothing. */
export function percent(share) {
  if (share === null || share === undefined || Number.isNaN(share)) return "–";
  if (share >= 1) return "100 %";
  if (share <= 0) return "0 %";
  const tenths = Math.min(999, Math.max(1, Math.round(share * 1000)));
  return `${tenths % 10 === 0 ? tenths / 10 : (tenths / 10).toFixed(1)} %`;
}

/** A latency, from seconds. */
export function latency(seconds) {
  if (seconds === null || seconds === undefined || !(seconds >= 0)) return "–";
  const ms = seconds * 1000;
  if (ms < 1) return "<1 ms";
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (seconds < 10) return `${seconds.toFixed(2)} s`;
  return `${Math.round(seconds)} s`;
}

/** How long something has lasted, in one unit, from seconds. */
export function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 120) return `${s} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  if (s < 172800) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86400)} days`;
}

/** A whole number, shortened from ten thousand on. */
export function count(number) {
  const n = number || 0;
  if (n < 10000) return String(Math.round(n));
  if (n < 1e6) return `${(n / 1e3).toFixed(n < 1e5 ? 1 : 0)}k`;
  return `${(n / 1e6).toFixed(n < 1e8 ? 1 : 0)}M`;
}

export function octets(number) {
  let n = number || 0;
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (n < 1024 || unit === "GiB") return `${n < 10 && unit !== "B" ? n.toFixed(1) : Math.round(n)} ${unit}`;
    n /= 1024;
  }
  return "";
}

/** `1 instance`, `2 instances`. */
export function many(number, one, more) {
  return `${count(number)} ${number === 1 ? one : more || `${one}s`}`;
}

const two = (n) => String(n).padStart(2, "0");

/** The hour and minute of a time in seconds since 1970, in the reader's time zone. */
export function minute(unix) {
  const at = new Date(unix * 1000);
  return `${two(at.getHours())}:${two(at.getMinutes())}`;
}

export function clock(unix) {
  return `${minute(unix)}:${two(new Date(unix * 1000).getSeconds())}`;
}

/** A problem's place, as compilers write it: `mesh/services/a.yaml:14:9`. */
export function place(problem) {
  return [problem.file, problem.line, problem.column]
    .filter((part) => part !== null && part !== undefined && part !== "")
    .join(":");
}

/** The first eight characters of a hash: enough to tell two apart by eye. */
export function short(hash) {
  return (hash || "").slice(0, 8);
}

/** At most `length` characters, the middle left out: names differ at both ends. */
export function fit(text, length) {
  if (text.length <= length) return text;
  const head = Math.ceil((length - 1) * 0.6);
  return `${text.slice(0, head)}…${text.slice(text.length - (length - 1 - head))}`;
}
