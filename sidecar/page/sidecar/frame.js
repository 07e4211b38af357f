// What stands around the tables: the head, banners, the search, and the app with its listeners.

import { h } from "./dom.js";
import { clock, many, rate, percent, short, span } from "./format.js";
import { worse } from "./judge.js";
import { sign } from "./marks.js";
import { banner, button, facts } from "./parts.js";
import { success } from "./rates.js";

const list = (value) => (Array.isArray(value) ? value : []);

/** Each state of a sidecar, as a sign and in words. */
const STATES = {
  LIVE: ["ok", "live"],
  INITIALIZING: ["idle", "starting"],
  DRAINING: ["warn", "draining"],
};

/** @param page the state of the whole page; see app.js */
export function top(page) {
  const { info, flows } = page;
  const name = h(
    "div",
    { key: "name", class: "brand" },
    h("h1", {}, nameOf(info)),
    info ? h("p", {}, versionOf(info), info.config?.hash ? h("code", {}, short(info.config.hash)) : null) : null,
  );
  if (!info) return [name];
  const [severity, word] = STATES[info.state] || ["warn", String(info.state).toLowerCase()];
  const troubles = page.troubles;
  return [
    name,
    h(
      "ul",
      { key: "sums", class: "sums" },
      ["inbound", "outbound"].map((direction) => {
        const flow = flows?.now.totals.get(direction);
        const perSecond = flow ? flow.requests / flows.now.seconds : 0;
        return h("li", { key: direction }, h("b", {}, flows ? rate(perSecond) : "–"), ` ${direction}`, shareOf(flow));
      }),
    ),
    h(
      "p",
      { key: "health", class: "health-sum" },
      sign(severity, word),
      troubles.bad ? sign("bad", many(troubles.bad, "thing hurts", "things hurt")) : null,
      troubles.warn ? sign("warn", `${troubles.warn} to look at`) : null,
    ),
    h(
      "p",
      { key: "fresh", class: `fresh${page.error ? " is-lost" : ""}` },
      page.error ? "not connected" : `live · ${clock(page.answered)}`,
    ),
  ];
}

function shareOf(flow) {
  const share = success(flow);
  return share === null || share === 1 ? null : h("span", { class: "less" }, ` ${percent(share)}`);
}

function nameOf(info) {
  return info ? String(info.service?.name || "sidecar") : "sidecar";
}

function versionOf(info) {
  return [info.service?.namespace, info.service?.version].filter(Boolean).join(" · ") || `sidecar ${info.version}`;
}

export const titleOf = (info) => (info ? `${nameOf(info)} – sidecar` : "sidecar");

export function banners(page) {
  const { info, error, config } = page;
  const refused = info?.config?.last_load_ok === false;
  const pushed = info?.control?.refused;
  const problems = list(config?.last_load?.problems).length;
  return [
    error && info
      ? banner(
          "lost",
          "bad",
          `The sidecar has not answered since ${clock(error.since)} (${error.why}). What you see is what was known then. This page asks again by itself.`,
        )
      : null,
    pushed
      ? banner(
          "pushed",
          "bad",
          `Revision ${pushed.revision} of the control plane is refused. What was in force before stays so.`,
          button("Show", page.on.showConfig),
        )
      : null,
    refused && !pushed
      ? banner(
          "refused",
          "bad",
          `The last change of the configuration is refused${problems ? `: ${many(problems, "problem")}` : ""}. What was in force before stays so.`,
          button("Show", page.on.showConfig),
        )
      : null,
    info?.state === "DRAINING" ? banner("draining", "warn", "The sidecar drains: it takes no new connections to the app.") : null,
  ];
}

export function tools(page) {
  return [
    h(
      "label",
      { key: "search", class: "search" },
      h("span", { class: "unseen" }, "Search routes, upstreams and requests"),
      h("input", {
        id: "search",
        type: "search",
        placeholder: "Search ( / )",
        autocomplete: "off",
        spellcheck: "false",
        value: page.search,
        on: { input: (event) => page.on.search(event.target.value) },
      }),
    ),
    page.search ? h("p", { key: "found", class: "found" }, page.found) : null,
  ];
}

/** In place of everything: why there is nothing to see. */
export function note(page) {
  if (page.info) return [];
  const [title, text] = page.error
    ? ["The sidecar does not answer", `${page.error.why}. This page asks again by itself.`]
    : ["Asking the sidecar …", ""];
  return [h("div", { key: "says", class: "says" }, h("h2", {}, title), h("p", {}, text))];
}

const ROLES = { inbound: "to the app", outbound: "from the app", metrics: "metrics and health", admin: "administration" };

/** The app, and where it and everybody else find the sidecar. */
export function appSheet(page) {
  const { info, config } = page;
  if (!info) return [];
  const app = config?.effective?.inbound?.app;
  return [
    h("h2", { key: "title", id: "app-title" }, "App"),
    h(
      "div",
      { key: "facts", class: "columns" },
      facts([
        ["service", [info.service?.name, info.service?.version, info.service?.namespace].filter(Boolean).join(" · ")],
        ["app", app ? String(app) : null],
        ["sidecar", [info.version, info.build, info.python ? `Python ${info.python}` : ""].filter(Boolean).join(" · ")],
        ["up for", Number.isFinite(info.uptime_seconds) ? span(info.uptime_seconds) : null],
        ["connections", connections(info.connections)],
        ["workers", info.workers ? many(list(info.workers).length || Number(info.workers) || 0, "worker") : null],
        ["control plane", info.control ? controlWord(info.control) : null],
      ]),
      facts(listeners(info)),
    ),
  ];
}

function connections(said) {
  if (!said) return null;
  return Object.entries(said)
    .map(([direction, number]) => `${number} ${direction}`)
    .join(", ");
}

function controlWord(control) {
  const at = control.connected_to || list(control.addresses)[0] || "";
  return h(
    "span",
    {},
    sign(control.connected ? "ok" : "warn", control.connected ? "connected" : "not connected"),
    at ? h("span", { class: "under" }, String(at)) : null,
    control.why ? h("span", { class: "under warn" }, String(control.why)) : null,
  );
}

/** One fact for each role, its addresses in it. */
function listeners(info) {
  const by = new Map();
  for (const one of list(info.listeners)) {
    const role = ROLES[one.role] || String(one.role);
    if (!by.has(role)) by.set(role, []);
    by.get(role).push([one.bound || one.address, one.host ? `for ${one.host}` : "", one.name || ""].filter(Boolean).join(" "));
  }
  return [...by].map(([role, some]) => [role, some.join(", ")]);
}

/** How many routes, upstreams and states hurt. */
export function troublesOf(severities) {
  return {
    bad: severities.filter((one) => one === "bad").length,
    warn: severities.filter((one) => one === "warn").length,
    worst: severities.reduce(worse, "idle"),
  };
}
