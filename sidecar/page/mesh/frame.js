// What stands around the map: the head, banners, the tools, and what is said in place of a map.

import { h } from "./dom.js";
import { clock, many, short } from "./format.js";
import { sign } from "./marks.js";
import { banner, button } from "./parts.js";

const list = (value) => (Array.isArray(value) ? value : []);

export function top(page) {
  const { mesh, model } = page;
  const name = h(
    "div",
    { key: "name", class: "brand" },
    h("h1", {}, mesh ? String(mesh.mesh) : "mesh"),
    mesh ? h("p", {}, `revision ${mesh.revision ?? "–"}`, mesh.hash ? h("code", {}, short(mesh.hash)) : null) : null,
  );
  if (!model) return [name];
  const services = [...model.services.values()].filter((one) => one.kind === "mesh");
  const instances = [...model.instances.values()].reduce((sum, some) => sum + some.length, 0);
  const calls = [...model.edges.values()];
  const bad =
    calls.filter((call) => call.severity === "bad").length + services.filter((one) => one.severity === "bad").length;
  const warn =
    calls.filter((call) => call.severity === "warn").length +
    services.filter((one) => one.severity === "warn").length +
    model.strangers.length;
  const total = calls.reduce((sum, call) => sum + call.rate, 0);
  return [
    name,
    h(
      "ul",
      { key: "sums", class: "sums" },
      h("li", { key: "services" }, h("b", {}, String(services.length)), " services"),
      h("li", { key: "instances" }, h("b", {}, String(instances)), " instances"),
      h(
        "li",
        { key: "rate" },
        h("b", {}, total > 0 && total < 10 ? total.toFixed(1) : String(Math.round(total))),
        " calls/s",
      ),
    ),
    h(
      "p",
      { key: "health", class: "health-sum" },
      bad ? sign("bad", many(bad, "thing hurts", "things hurt")) : null,
      warn ? sign("warn", `${warn} to look at`) : null,
      bad || warn || !services.length ? null : instances ? sign("ok", "all well") : sign("idle", "no sidecar yet"),
    ),
    h(
      "p",
      { key: "fresh", class: `fresh${page.error ? " is-lost" : ""}` },
      page.error ? "not connected" : `live · ${clock(page.answered)}`,
    ),
  ];
}

export function banners(page) {
  const { mesh, error, unauthorized, on } = page;
  const halted = list(mesh && mesh.rollouts).filter((one) => one.state === "halted");
  const source = list(mesh && mesh.source && mesh.source.problems);
  const doubt = (mesh && mesh.doubt) || {};
  return [
    error && mesh
      ? banner(
          "lost",
          "bad",
          `The control plane has not answered since ${clock(error.since)} (${error.why}). What you see is what was known then; requests between services do not pass through it and go on.`,
        )
      : null,
    unauthorized && mesh
      ? banner(
          "token",
          "warn",
          "The control plane refuses the token: what you see is not kept up to date.",
          button("Give a token", on.token),
        )
      : null,
    halted.length
      ? banner(
          "halted",
          "bad",
          `${many(halted.length, "rollout")} halted: ${halted.map((one) => `${one.service} (revision ${one.revision}${one.why ? `: ${one.why}` : ""})`).join("; ")}`,
          button("Show", () => on.service(String(halted[0].service))),
        )
      : null,
    source.length
      ? banner(
          "source",
          "bad",
          `The last edit of the mesh is refused: ${many(source.length, "problem")}. Revision ${mesh.revision} stays in force.`,
          page.selection ? button("Show", on.close) : null,
        )
      : null,
    ...list(mesh && mesh.store).map((one) =>
      banner(
        `store-${one.what}`,
        "bad",
        `The control plane cannot write its ${one.what}: ${one.error}. Sidecars are served from its memory; it is tried again.`,
      ),
    ),
    doubt.removing === false
      ? banner(
          "doubt",
          "warn",
          `${many(doubt.stale || 0, "registration")} stale, ${doubt.fresh || 0} fresh: the fault is taken to be the control plane's own, and no endpoint is removed.`,
        )
      : null,
  ];
}

export function tools(page, view, found) {
  const { on } = page;
  if (!page.model) return [];
  const silent = [...page.model.edges.values()].filter((call) => call.silent).length;
  return [
    h(
      "label",
      { key: "search", class: "search" },
      h("span", { class: "unseen" }, "Search services"),
      h("input", {
        id: "search",
        type: "search",
        placeholder: "Search services ( / )",
        autocomplete: "off",
        spellcheck: "false",
        value: page.search,
        on: { input: (event) => on.search(event.target.value) },
      }),
    ),
    found !== null
      ? h(
          "p",
          { key: "found", class: "found" },
          found.length
            ? `${found.length} found, Enter goes to ${found.length > 1 ? "the next" : "it"}`
            : "nothing found",
        )
      : null,
    page.focus !== null
      ? h(
          "p",
          { key: "focus", class: "chip" },
          h("span", {}, `around ${page.focus}`),
          button("Show all", () => on.focus(null), { class: "button quiet" }),
        )
      : null,
    h("span", { key: "space", class: "space" }),
    check(
      "grouped",
      "Group",
      page.grouped,
      on.grouped,
      "by namespace, or by hops from the entry where names have none",
    ),
    silent
      ? check("silent", "Calls without requests", page.silent, on.silent, "what is allowed and was not seen")
      : null,
    page.table
      ? null
      : h(
          "span",
          { key: "zoom", class: "zoom", role: "group", "aria-label": "Zoom" },
          button("−", () => on.zoom(0.8), { "aria-label": "Smaller", class: "button square" }),
          button("Fit", () => on.zoom(0), { "aria-label": "All of it" }),
          button("+", () => on.zoom(1.25), { "aria-label": "Larger", class: "button square" }),
          button("Tidy", on.tidy, { title: "Lay the map out anew" }),
        ),
    h(
      "span",
      { key: "views", class: "views", role: "group", "aria-label": "View" },
      button("Map", () => on.table(false), { "aria-pressed": String(!page.table) }),
      button("Table", () => on.table(true), { "aria-pressed": String(page.table) }),
    ),
  ];
}

function check(key, text, value, change, title) {
  return h(
    "label",
    { key, class: "check", title },
    h("input", {
      type: "checkbox",
      checked: value,
      "data-check": key,
      on: { change: (event) => change(event.target.checked) },
    }),
    text,
  );
}

/** In place of a map, or over it: why there is nothing to see. */
export function note(page, view) {
  const { mesh, error, unauthorized, on } = page;
  if (!mesh && unauthorized)
    return [
      says(
        "token",
        "A token is needed",
        "The control plane shows the mesh to its operators only.",
        button("Give a token", on.token, { class: "button strong" }),
      ),
    ];
  if (!mesh && error)
    return [says("error", "The control plane does not answer", `${error.why}. This page asks again by itself.`)];
  if (!mesh) return [says("first", "Asking the control plane …", "")];
  if (!view.nodes.length)
    return [
      says(
        "empty",
        "This mesh has no services yet",
        "Write one file a service into the mesh's directory: each service appears here as soon as the file is there.",
        h("pre", {}, "service: storefront\napp: 127.0.0.1:8080"),
      ),
    ];
  if (!list(mesh.instances).length)
    return [
      h(
        "p",
        { key: "silent", class: "stage-line" },
        "No sidecar has reported yet. Beside each app: ",
        h("code", {}, "sidecar run --control URL --service NAME"),
      ),
    ];
  return [];
}

function says(key, title, text, more = null) {
  return h("div", { key, class: "says" }, h("h2", {}, title), h("p", {}, text), more);
}
