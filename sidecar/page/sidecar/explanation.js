// What the sidecar decides for a request, and why, as a person reads it. Nothing is required of what is said: of a key that
// is not there, its part is left out.

import { h } from "./dom.js";
import { many, percent } from "./format.js";
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

/** @param said the answer of `/explain` */
export function explanation(said) {
  return [
    outcome(said),
    request(said.request),
    authorization(said.authorization),
    routes(list(said.routes)),
    split(said.split),
    endpoints(said.endpoint),
    sent(said.sent),
    settings(said.settings),
    happened(said.happened),
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
  return h(
    "div",
    { key: "outcome", class: `outcome is-${severity}` },
    h(
      "p",
      {},
      sign(severity, word),
      it.route ? [" by ", h("span", { class: "id" }, String(it.route))] : null,
      taken ? [" to ", h("span", { class: "id" }, String(taken.upstream))] : null,
      it.status ? ` with ${it.status}` : null,
      it.flag && it.flag !== "-" ? h("code", {}, ` ${it.flag}`) : null,
      it.position ? place(it.position) : null,
    ),
    it.why ? h("p", { class: "why" }, String(it.why)) : null,
  );
}

function place(position) {
  return h("code", { class: "place", title: String(position) }, shortPlace(position));
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
      ["from", [it.source_ip, it.from].filter(Boolean).join(", ")],
    ]),
  );
}

function authorization(it) {
  if (!isObject(it)) return null;
  const severity = it.outcome === "allowed" ? "ok" : it.outcome === "refused" || it.outcome === "denied" ? "bad" : "warn";
  return section(
    "authorization",
    "Authorization",
    h(
      "p",
      {},
      sign(severity, String(it.outcome ?? "")),
      it.rule ? [" by rule ", h("span", { class: "id" }, String(it.rule))] : null,
      it.position ? place(it.position) : null,
    ),
    it.why ? h("p", { class: "why" }, String(it.why)) : null,
  );
}

const RESULTS = { taken: "ok", missed: "idle", "not asked": "idle" };

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
            sign(RESULTS[route.result] || "warn", ""),
            h("span", { class: "id" }, String(route.name || "(without a name)")),
            h("span", { class: "hint" }, `${route.count > 1 ? `${many(route.count, "route")}, ` : ""}${route.result ?? ""}`),
            route.position ? place(route.position) : null,
          ),
          list(route.matches).length ? h("ul", {}, list(route.matches).map(miss)) : null,
        ),
      ),
    ),
  );
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
    it.sticky ? h("p", { class: "why" }, `sticky by ${it.sticky}${it.key ? `: ${it.key}` : ", which the request has not"}`) : null,
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
  return section(
    "endpoint",
    "Endpoint",
    h(
      "p",
      {},
      it.would_take ? ["now ", h("span", { class: "id" }, String(it.would_take))] : "none",
      it.balancer ? h("span", { class: "hint" }, ` by ${String(it.balancer).replaceAll("_", " ")}`) : null,
    ),
    list(it.endpoints).length
      ? h(
          "ul",
          { class: "endpoints" },
          list(it.endpoints).map((one) =>
            h(
              "li",
              { key: one.address },
              h("span", { class: "id" }, String(one.address)),
              " ",
              sign(one.state === "in" ? "ok" : "bad", one.state === "in" ? "in use" : String(one.state ?? "")),
              one.why ? h("span", { class: "hint" }, ` ${one.why}`) : null,
            ),
          ),
        )
      : null,
  );
}

const LINES = { "+": ["is-added", "added: "], "-": ["is-gone", "removed: "] };

function sent(it) {
  const lines = list(it?.lines);
  if (!lines.length) return null;
  return section(
    "sent",
    "What is sent",
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

function settings(it) {
  const rows = isObject(it) ? Object.entries(it) : [];
  if (!rows.length) return null;
  return section(
    "settings",
    "Settings",
    table(
      "Settings",
      ["setting", "value", "from"],
      rows.map(([name, said]) => ({
        key: name,
        cells: [name, valueOf(isObject(said) && "value" in said ? said.value : said), isObject(said) && said.from ? shortPlace(said.from) : ""],
      })),
    ),
  );
}

function happened(it) {
  if (!isObject(it)) return null;
  return section(
    "happened",
    "What happened to it",
    facts(Object.entries(it).map(([name, value]) => [name.replaceAll("_", " "), name === "time" ? timeOf(value) : valueOf(value)])),
  );
}
