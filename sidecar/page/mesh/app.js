// The page: asks, keeps what it knew, and shows it.
//
// One state, and one function that makes the whole page of it; `dom.js` changes what differs. What it asks: the mesh
// every two seconds, the hour's history every fifteen, the routes of the chosen call, or the instances of the chosen
// service, every five; nothing while the page is hidden.

import { Unauthorized, ask, isToken, setToken, token } from "./client.js";
import { callsDetails, edgeDetails, serviceDetails } from "./details.js";
import { patch, setText } from "./dom.js";
import { many } from "./format.js";
import { layout } from "./layout.js";
import { MeshMap } from "./map.js";
import { groupsOf, matches, modelOf, viewOf } from "./model.js";
import { overview } from "./rollouts.js";
import { tables } from "./tables.js";
import { timeline } from "./timeline.js";
import { banners, note, tools, top } from "./frame.js";

const MESH_MS = 2000;
const HISTORY_MS = 15000;
const MORE_MS = 5000;
// While nobody answers: seldom enough for a control plane that just starts, often enough for a person who waits for it.
const LOST_MS = 5000;

const NARROW = matchMedia("(max-width: 640px)"); // As in map.css: a telephone that is held upright.

const at = (id) => document.getElementById(id);

const state = {
  mesh: null,
  history: null,
  reasons: null,
  more: null, // What was asked of the chosen service or call beside the mesh, {of, said}.
  error: null, // {why, since (this machine's clock, seconds)}: the control plane does not answer
  unauthorized: null,
  answered: null,
  heard: 0,
  selection: null, // {kind: "service" | "edge" | "calls", id}
  focus: null,
  search: "",
  hit: 0,
  grouped: false,
  open: new Set(),
  silent: null,
  table: false,
  minute: null,
};
const seen = new Set();
const layouts = new Map();
let halted = null;
let wasLost = false;
let memory = "";
let model = null;

const map = new MeshMap(at("map"), {
  select: (kind, it) => (kind === "group" ? on.calls(it.key) : kind === "edge" ? on.edge(it.key) : on.service(it.name)),
  group: (label) => {
    state.open.add(label);
    say(`Group ${label} is open`);
    render();
  },
});

const on = {
  service: (name) => choose({ kind: "service", id: name }),
  edge: (key) => choose({ kind: "edge", id: key }),
  calls: (key) => choose({ kind: "calls", id: key }),
  close: () => {
    const was = state.selection;
    choose(null);
    if (was && !state.table) was.kind === "service" ? map.focus(was.id, true) : map.focusEdge(was.id);
  },
  focus: (name) => {
    state.focus = name;
    say(name === null ? "All services are shown" : `Only ${name} and its neighbours are shown`);
    render();
  },
  search: (text) => {
    state.search = text;
    state.hit = 0;
    render();
    const found = model ? matches(model, text) : null;
    say(found === null ? "" : `${many(found.length, "service")} found`);
  },
  next: () => {
    const found = model ? matches(model, state.search) : null;
    if (!found || !found.length) return;
    const name = found[state.hit % found.length];
    state.hit += 1;
    // Where only a neighbourhood is shown, a service of elsewhere is worth leaving it for.
    if (state.focus !== null && !map.has(name)) state.focus = null;
    if (state.grouped) state.open.add(groupsOf(model).get(name));
    on.service(name);
    if (!state.table) map.show(name, true);
  },
  grouped: (value) => {
    state.grouped = value;
    state.open = new Set();
    render();
  },
  silent: (value) => set({ silent: value }),
  table: (value) => set({ table: value }),
  tidy: () => {
    layouts.delete(memory);
    render();
    map.fit();
  },
  zoom: (factor) => (factor === 0 ? map.fit() : map.zoom(factor)),
  token: askForToken,
};

function set(change) {
  Object.assign(state, change);
  render();
}

function choose(selection) {
  const panel = at("panel");
  const inside = panel.contains(document.activeElement);
  // Who opens what is open already wants to go there.
  const again =
    selection && state.selection && selection.kind === state.selection.kind && selection.id === state.selection.id;
  state.selection = selection;
  state.minute = null;
  askMore();
  remember();
  render();
  if (!selection) return;
  panel.scrollTop = 0;
  if (inside || again) at("panel-title").focus({ preventScroll: true });
  say(`Details of ${at("panel-title").textContent}`);
}

// --- what is shown

function render() {
  const { mesh, history } = state;
  model = mesh ? modelOf(mesh, history, seen) : null;
  const page = { ...state, model, on, now: mesh ? mesh.time || 0 : 0 };
  if (model && state.focus !== null && !model.services.has(state.focus)) state.focus = null;
  if (model && state.silent === null) page.silent = silentByDefault();
  const found = model ? matches(model, state.search) : null;
  const view = model
    ? viewOf(model, { silent: page.silent, focus: state.focus, grouped: state.grouped, open: state.open })
    : { nodes: [], edges: [] };
  document.title = mesh ? `${mesh.mesh} – mesh` : "mesh";
  patch(at("top"), top(page));
  patch(at("banners"), banners(page));
  patch(at("tools"), tools(page, view, found));
  patch(at("stage-note"), note(page, view));
  at("map").classList.toggle("is-hidden", state.table || !view.nodes.length);
  at("tables").hidden = !state.table;
  document.body.classList.toggle("is-lost", Boolean(state.error && mesh));
  if (state.table) patch(at("tables"), tables(view, found, page));
  if (view.nodes.length) {
    const upright = NARROW.matches;
    memory = JSON.stringify([upright, state.focus, state.grouped, [...state.open].sort()]);
    const made = layout(
      view.nodes.map((node) => node.id),
      view.edges.map((call) => [call.from, call.to]),
      layouts.get(memory) || null,
      upright,
    );
    layouts.set(memory, made);
    map.render(view, made, { selection: state.selection, found, memory });
  }
  patch(at("panel"), model ? panel(page, view) : []);
  patch(
    at("time"),
    model ? timeline(history, state.selection, state.focus, state.minute, (minute) => set({ minute })) : [],
  );
  announce(mesh);
}

function panel(page, view) {
  const { selection } = state;
  if (selection) {
    const service = selection.kind === "service" ? model.services.get(selection.id) : null;
    const said = state.more && state.more.of === selection.id ? state.more.said : null;
    if (service) return serviceDetails(service, { ...page, answered: said });
    const edge = selection.kind === "edge" ? model.edges.get(selection.id) : null;
    if (edge) return edgeDetails(edge, { ...page, routes: said });
    const calls = selection.kind === "calls" ? view.edges.find((call) => call.key === selection.id) : null;
    if (calls && calls.of) return callsDetails(calls, page);
  }
  return overview(page);
}

/** Calls without traffic are drawn at first where there are not more of them than one can read. */
function silentByDefault() {
  const silent = [...model.edges.values()].filter((call) => call.silent).length;
  return silent <= model.services.size;
}

/** What a screen reader says without being asked: a halt, and that the control plane is lost or back. */
function announce(mesh) {
  if (mesh) {
    const now = new Set(
      (mesh.rollouts || []).filter((one) => one.state === "halted").map((one) => `${one.service} ${one.revision}`),
    );
    const anew = [...now].filter((key) => !halted || !halted.has(key));
    if (anew.length)
      setText(at("alarm"), anew.map((key) => `Rollout halted: ${key.replace(/ (\S+)$/, ", revision $1")}`).join(". "));
    else if (halted && halted.size && !now.size) setText(at("alarm"), "No rollout is halted any more.");
    halted = now;
  }
  const lost = Boolean(state.error);
  if (lost !== wasLost)
    setText(at("alarm"), lost ? "The control plane does not answer." : "The control plane answers again.");
  wasLost = lost;
}

function say(text) {
  setText(at("said"), text);
}

// --- asking

let turn = 0;
let failures = 0;
let timer = null;

async function poll() {
  clearTimeout(timer);
  if (document.hidden) return;
  turn += 1;
  const mine = turn;
  try {
    const mesh = await ask("v1/mesh");
    if (mine !== turn) return;
    failures = 0;
    Object.assign(state, { mesh, error: null, unauthorized: null, answered: Date.now() / 1000 });
    if (performance.now() - state.heard > HISTORY_MS || state.history === null) {
      state.heard = performance.now();
      // The map does not wait for the hour; the hour that was known stays when it cannot be had.
      ask("v1/history?minutes=60").then(
        (history) => set({ history }),
        () => {},
      );
      if (state.reasons === null)
        ask("page/reasons.json").then(
          (reasons) => set({ reasons }),
          () => {},
        );
    }
  } catch (error) {
    if (mine !== turn) return;
    if (error instanceof Unauthorized) {
      const first = state.unauthorized === null;
      state.unauthorized = error.message;
      state.error = null;
      if (first) askForToken();
    } else {
      state.error = state.error || { since: state.answered };
      state.error.why = error.message;
    }
    failures += 1;
  }
  render();
  if (state.unauthorized === null) timer = setTimeout(poll, failures > 1 ? LOST_MS : MESH_MS);
}

let moreTimer = null;

async function askMore() {
  clearTimeout(moreTimer);
  const { selection } = state;
  if (!selection || selection.kind === "calls" || document.hidden) return;
  let said;
  try {
    said = await ask(questionOf(selection));
  } catch (error) {
    said = { error: error.message };
  }
  if (state.selection !== selection) return;
  set({ more: { of: selection.id, said } });
  moreTimer = setTimeout(askMore, MORE_MS);
}

function questionOf({ kind, id }) {
  if (kind === "service") return `v1/instances?service=${encodeURIComponent(id)}`;
  const [from, to] = JSON.parse(id);
  return `v1/routes?from=${encodeURIComponent(from)}&to=${encodeURIComponent(to)}`;
}

function askForToken() {
  setText(
    at("ask-why"),
    token() ? (state.unauthorized === "403" ? "This token may not read the mesh." : "This token was refused.") : "",
  );
  at("ask-token").value = "";
  if (!at("ask").open) at("ask").showModal();
}

at("ask-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = at("ask-token").value.trim();
  if (!isToken(text)) {
    setText(at("ask-why"), "That cannot be a token: letters, digits and . _ ~ + / - only.");
    return;
  }
  setToken(text);
  state.unauthorized = null;
  at("ask").close();
  poll();
});
at("ask-later").addEventListener("click", () => at("ask").close());
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  poll();
  askMore();
});

// --- keys and address

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || at("ask").open) return;
  const typing = event.target.matches("input, select, textarea");
  if (event.key === "Escape") {
    if (typing && state.search) on.search("");
    else if (state.selection) on.close();
    else if (state.focus !== null) on.focus(null);
    else if (state.search) on.search("");
    else return;
    event.preventDefault();
  } else if (!typing) {
    const does = {
      "/": () => at("search").focus(),
      "+": () => on.zoom(1.25),
      "=": () => on.zoom(1.25),
      "-": () => on.zoom(0.8),
      0: () => on.zoom(0),
      t: () => on.table(!state.table),
      f: toggleFocus,
    }[event.key];
    if (!does) return;
    event.preventDefault();
    does();
  }
});

function toggleFocus() {
  if (state.focus !== null) on.focus(null);
  else if (state.selection && state.selection.kind === "service") on.focus(state.selection.id);
  else if (map.current && model && model.services.has(map.current)) on.focus(map.current);
}

at("tools").addEventListener("submit", (event) => {
  event.preventDefault();
  on.next();
});

/** The address says what is chosen, so that it can be sent to a colleague. It never says a token. */
function remember() {
  const { selection } = state;
  const said = selection
    ? `#${selection.kind}=${encodeURIComponent(selection.id)}`
    : location.pathname + location.search;
  history.replaceState(null, "", said);
}

function recall() {
  const found = /^#(service|edge)=(.+)$/.exec(location.hash);
  if (!found) return;
  try {
    const id = decodeURIComponent(found[2]);
    if (found[1] === "edge" && !(Array.isArray(JSON.parse(id)) && JSON.parse(id).length === 2)) return;
    state.selection = { kind: found[1], id };
  } catch {
    return; // An address that somebody mistyped chooses nothing.
  }
  askMore();
}

NARROW.addEventListener("change", render);
window.addEventListener("hashchange", () => {
  recall();
  render();
});
setInterval(() => {
  if (state.error) render();
}, 1000);

recall();
render();
poll();
