// An hour of what is chosen, minute by minute: requests, failures, p99. Arrow keys or the pointer choose a minute.

import { h } from "./dom.js";
import { count, latency, many, minute, percent } from "./format.js";
import { edgeKey } from "./layout.js";

const W = 300;
const H = 56;

/**
 * The sums of the rows that `chosen` takes: requests and failures add up, of p99 the slowest is told.
 * @returns {minutes, requests, failures, p99}; null where nothing was told
 */
export function series(history, chosen) {
  const minutes = (history && history.minutes) || [];
  const made = {
    minutes,
    requests: minutes.map(() => null),
    failures: minutes.map(() => null),
    p99: minutes.map(() => null),
  };
  for (const row of (history && history.edges) || []) {
    if (!chosen(String(row.from), String(row.to))) continue;
    minutes.forEach((_, i) => {
      for (const field of ["requests", "failures"]) {
        const value = row[field] && row[field][i];
        if (Number.isFinite(value)) made[field][i] = (made[field][i] || 0) + value;
      }
      const slow = row.p99_s && row.p99_s[i];
      if (Number.isFinite(slow)) made.p99[i] = Math.max(made.p99[i] || 0, slow);
    });
  }
  return made;
}

/** Whose hour it is: of a call, of all calls to a service, or of the whole mesh. */
export function chosenBy(selection, focus) {
  if (selection && selection.kind === "edge")
    return { title: JSON.parse(selection.id).join(" → "), takes: (from, to) => edgeKey(from, to) === selection.id };
  if (selection && selection.kind === "service")
    return { title: `calls to ${selection.id}`, takes: (_, to) => to === selection.id };
  if (focus !== null) return { title: `calls to ${focus}`, takes: (_, to) => to === focus };
  return { title: "all calls", takes: () => true };
}

/** @param at the minute that is pointed at, as an index, or null; @param point(index or null) */
export function timeline(history, selection, focus, at, point) {
  const { title, takes } = chosenBy(selection, focus);
  const made = series(history, takes);
  const last = made.minutes.length - 1;
  if (last < 0)
    return [
      h(
        "p",
        { key: "none", class: "empty" },
        history ? "No minute has been counted yet." : "The last hour is not known yet.",
      ),
    ];
  const here = at === null || at > last ? last : at;
  const failed = made.requests[here] ? (made.failures[here] || 0) / made.requests[here] : null;
  const words = `${minute(made.minutes[here])}: ${many(made.requests[here] || 0, "request")}, ${count(made.failures[here] || 0)} failed${failed ? ` (${percent(failed)})` : ""}, p99 ${latency(made.p99[here])}`;
  const keys = (event) => {
    const to = { ArrowLeft: here - 1, ArrowRight: here + 1, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    point(Math.max(0, Math.min(last, to)));
  };
  const on = {
    pointermove: (event) => {
      const box = event.currentTarget.querySelector("svg").getBoundingClientRect();
      const charts = [...event.currentTarget.querySelectorAll("svg")].map((svg) => svg.getBoundingClientRect());
      const under = charts.find((one) => event.clientX >= one.left - 6 && event.clientX <= one.right + 6) || box;
      point(Math.max(0, Math.min(last, Math.round(((event.clientX - under.left) / under.width) * last))));
    },
    pointerleave: () => point(null),
    keydown: keys,
  };
  return [
    h(
      "p",
      { key: "title", class: "time-title" },
      h("span", { class: "time-name" }, h("b", {}, "Last hour"), ` · ${title}`),
      h("span", { class: "time-now" }, words),
    ),
    h(
      "div",
      {
        key: "charts",
        class: "charts",
        tabindex: "0",
        role: "slider",
        "aria-label": `Last hour of ${title}, by minute`,
        "aria-valuemin": "0",
        "aria-valuemax": String(last),
        "aria-valuenow": String(here),
        "aria-valuetext": words,
        on,
      },
      chart("requests", "Requests a minute", made, "requests", here, count),
      chart("failures", "Failures a minute", made, "failures", here, count),
      chart("p99", "p99", made, "p99", here, latency),
    ),
  ];
}

function chart(kind, title, made, field, here, tell) {
  const values = made[field];
  const some = values.filter(Number.isFinite);
  const most = Math.max(0, ...some);
  // A chart of nothing but zeros is a line at the bottom, not at the top.
  const top = most > 0 ? most : 1;
  const x = (i) => (values.length > 1 ? 1 + (i / (values.length - 1)) * (W - 2) : W / 2);
  const y = (value) => H - 2 - (value / top) * (H - 6);
  const runs = [];
  values.forEach((value, i) => {
    if (!Number.isFinite(value)) return;
    if (i && Number.isFinite(values[i - 1])) runs[runs.length - 1].push(i);
    else runs.push([i]);
  });
  const line = runs
    .map(
      (run) =>
        run.map((i, n) => `${n ? "L" : "M"}${x(i).toFixed(1)},${y(values[i]).toFixed(1)}`).join("") +
        // A minute alone is a dash, not a point that nobody sees.
        (run.length === 1 ? "h-5" : ""),
    )
    .join("");
  const area = runs
    .map(
      (run) =>
        `M${x(run[0]).toFixed(1)},${H}${run.map((i) => `L${x(i).toFixed(1)},${y(values[i]).toFixed(1)}`).join("")}L${x(run[run.length - 1]).toFixed(1)},${H}Z`,
    )
    .join("");
  return h(
    "figure",
    { key: kind, class: `chart chart-${kind}${most > 0 ? "" : " is-none"}` },
    h(
      "figcaption",
      {},
      h("span", {}, title),
      h("span", { class: "chart-most" }, some.length ? `most ${tell(most)}` : ""),
    ),
    h(
      "svg",
      { viewBox: `0 0 ${W} ${H}`, preserveAspectRatio: "none", "aria-hidden": "true", focusable: "false" },
      h("line", { class: "ground", x1: 0, x2: W, y1: H - 1, y2: H - 1 }),
      h("path", { class: "area", d: area }),
      h("path", { class: "curve", d: line }),
      h("line", { class: "here", x1: x(here), x2: x(here), y1: 0, y2: H }),
    ),
    h(
      "p",
      { class: "ends", "aria-hidden": "true" },
      h("span", {}, minute(made.minutes[0])),
      h("span", {}, minute(made.minutes[made.minutes.length - 1])),
    ),
  );
}
