// The map: services as boxes, calls as lines between them; panned, zoomed, and walked through with the keyboard.
//
// One service of the map is in the order of the tabulator. Arrow keys go from service to service; `e` goes to its calls,
// where up and down choose another, left and right lead to the caller and the callee. With Shift, arrow keys move the map.

import { h, patch } from "./dom.js";
import { count, fit, flow, latency, many, octetRate, percent, rate } from "./format.js";
import { hands } from "./hands.js";
import { LABEL_H, LABEL_W } from "./labels.js";
import { LABELLED, NODE_W, position } from "./layout.js";
import { lock, lockWord, mark, WORDS } from "./marks.js";
import { paths } from "./paths.js";
import { waveOf } from "./rollouts.js";

const MARGIN = 24;
const LOCK = 0.8; // Of the size of a sign.
const FAR = 0.62; // Smaller, a service has only its name.
const LEGIBLE = 6; // Letters of a name, with fewer of which it is none.
const LABELS_FROM = 0.45; // Smaller, nobody could read one.
const ZOOM = [0.12, 2.5];
const LETTER = 6.2; // Pixels of one in a label.
const PLATE = 4; // Of a label that hurts: what it is wider than its letters may be, at either side.
const PAN = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
const PAN_BY = 60; // Pixels, by Shift and an arrow key.
// Letters keep their size between two of these, in which the map is zoomed out.
const STEPS = Array.from({ length: 26 }, (_, i) => 0.92 ** i);

export class MeshMap {
  /** @param on {select(kind, id), group(label), zoom()}: what the page does about it */
  constructor(svg, on) {
    this.svg = svg;
    this.on = on;
    this.viewport = svg.querySelector("#viewport");
    this.at = { x: 0, y: 0, k: 1 };
    this.touched = false;
    this.hover = null;
    this.current = null; // The service that the tabulator reaches.
    this.drawn = null;
    this.listen();
  }

  /**
   * @param view of `viewOf`
   * @param made its layout
   * @param look {selection, found (names that the search found, or null), memory (what view this is)}
   */
  render(view, made, look) {
    const anew = !this.drawn || this.drawn.made !== made;
    const edges = view.edges.filter((call) => made.places.has(call.from) && made.places.has(call.to));
    const lines =
      anew || this.drawn.count !== edges.length
        ? paths(
            made,
            edges.map((call) => [call.from, call.to]),
          )
        : this.drawn.lines;
    const before = this.drawn;
    this.drawn = { view: { ...view, edges }, made, look, lines, count: edges.length };
    if (!view.nodes.some((node) => node.id === this.current)) this.current = this.order()[0] || null;
    if (!before || before.look.memory !== look.memory) this.fit();
    else if (anew && !this.touched && !this.isInside()) this.fit();
    this.draw();
  }

  draw() {
    if (!this.drawn) return;
    const { view, made, look, lines } = this.drawn;
    const lit = this.lit();
    const few = view.edges.length <= LABELLED;
    const found = look.found === null ? null : new Set(look.found);
    // What the chosen service talks to can be read, found or not.
    if (found && look.selection && look.selection.kind === "service") {
      for (const call of view.edges) {
        if (call.from === look.selection.id) found.add(call.to);
        if (call.to === look.selection.id) found.add(call.from);
      }
    }
    const far = this.at.k < FAR;
    const roomy = made.upright ? made.gap >= LABEL_H : made.gap >= LABEL_W * 0.7;
    const shown = (call) => lit.has(call.key) || (!call.silent && (few || (roomy && !far && call.severity === "bad")));
    const labels = this.at.k < LABELS_FROM ? [] : view.edges.filter(shown);
    const labelled = new Set(labels.map((call) => call.key));
    this.svg.dataset.zoom = far ? "far" : "near";
    patch(this.viewport, [
      h(
        "g",
        { key: "edges", class: "edges" },
        view.edges.map((call) => this.edge(call, lines.get(call.key), lit, found, labelled.has(call.key))),
      ),
      h(
        "g",
        { key: "nodes", class: "nodes" },
        view.nodes.map((node) => this.node(node, position(made, node.id), found, far)),
      ),
      h(
        "g",
        { key: "labels", class: "labels", "aria-hidden": "true" },
        labels.map((call) => this.label(call, lines.get(call.key), lit)),
      ),
    ]);
  }

  /** Calls that are looked at: the selected one, and those of the service that is selected or under the pointer. */
  lit() {
    const { view, look } = this.drawn;
    const of = this.hover || (look.selection && look.selection.kind === "service" ? look.selection.id : null);
    const lit = new Set(view.edges.filter((call) => call.from === of || call.to === of).map((call) => call.key));
    if (look.selection && look.selection.kind === "edge") lit.add(look.selection.id);
    return lit;
  }

  edge(call, line, lit, found, labelled) {
    const { selection } = this.drawn.look;
    const selected = Boolean(selection && selection.id === call.key);
    const dim = found !== null && !found.has(call.from) && !found.has(call.to);
    const words = ["edge", `is-${call.severity}`, weight(call.requests || !call.tcp ? call.rate : call.tcp.rate)];
    if (call.silent) words.push("is-silent");
    if (call.tcp && !call.requests) words.push("is-tcp");
    if (lit.has(call.key)) words.push("is-lit");
    else if (lit.size && (selection || this.hover)) words.push("is-faint");
    if (selected) words.push("is-selected");
    if (dim) words.push("is-dim");
    const on = {
      click: () => this.on.select(call.of ? "group" : "edge", call),
      keydown: (event) => this.edgeKeys(event, call),
    };
    return h(
      "g",
      {
        key: call.key,
        class: words.join(" "),
        role: "button",
        tabindex: "-1",
        "data-edge": call.key,
        "aria-label": tell(call),
        "aria-pressed": String(selected),
        on,
      },
      h("path", { class: "hit", d: line.d }),
      h("path", { class: "line", d: line.d }),
      h("path", { class: "tip", d: line.tip }),
      // Beside its numbers, where they are shown.
      labelled ? null : lock(call, line.label.x - 8 * LOCK, line.label.y - 8 * LOCK, LOCK),
      h("title", {}, tell(call)),
    );
  }

  label(call, line, lit) {
    const { x, y } = line.label;
    const bad = call.severity === "bad" || call.severity === "warn";
    const words = `label is-${call.severity}${lit.has(call.key) ? " is-lit" : ""}`;
    const on = { click: () => this.on.select(call.of ? "group" : "edge", call) };
    const line1 = call.requests || !call.refused ? flow(call) : `${count(call.refused)} refused`;
    const line2 = call.refused
      ? call.requests
        ? `${count(call.refused)} refused`
        : "in a minute"
      : call.requests
        ? numbers(call)
        : call.tcp
          ? octetRate(call.tcp)
          : "no requests";
    const beside = (LABEL_W - line1.length * LETTER) / 2 - 16 * LOCK - 4;
    // What needs no sign has a plate for each line of letters: the call's own line goes on between them.
    return h(
      "g",
      { key: call.key, class: words, at: [x - LABEL_W / 2, y - LABEL_H / 2], on },
      bad
        ? h("rect", { class: "plate", x: -PLATE, width: LABEL_W + 2 * PLATE, height: LABEL_H, rx: 7 })
        : [line1, line2].map((text, i) => {
            const w = text.length * LETTER + 8;
            return h("rect", { class: "plate", x: (LABEL_W - w) / 2, y: i * 20, width: w, height: 16, rx: 5 });
          }),
      bad ? mark(call.severity, 5, 4, 0.76) : null,
      lock(call, beside, bad ? 4 : 1.5, LOCK),
      h("text", { class: "label-rate", x: LABEL_W / 2, y: bad ? 15 : 12.5 }, line1),
      h("text", { class: "label-more", x: LABEL_W / 2, y: bad ? 29.5 : 31.5 }, line2),
    );
  }

  node(node, { x, y }, found, far) {
    const { selection } = this.drawn.look;
    const { high } = this.drawn.made;
    const group = node.members !== undefined;
    const said = group ? ofGroup(node) : ofService(node.service);
    const selected = Boolean(selection && selection.kind === "service" && selection.id === node.id);
    const dim = found !== null && !(group ? node.members.some((one) => found.has(one.name)) : found.has(node.id));
    const words = ["node", `is-${said.severity}`, `of-${said.kind}`];
    if (selected) words.push("is-selected");
    if (dim) words.push("is-dim");
    const open = () => (group ? this.on.group(node.group) : this.on.select("service", node.service));
    const on = {
      click: open,
      keydown: (event) => this.nodeKeys(event, node.id, open),
      focus: () => this.focused(node.id),
      pointerenter: () => this.hovered(node.id),
      pointerleave: () => this.hovered(null),
    };
    const low = high < 50; // One line: the name, and the health beside it.
    const step = this.step(this.at.k);
    const letters = far ? Math.floor((NODE_W - 10) / ((10 / step) * 0.6)) : low ? 12 : 16;
    const size = far ? 0.8 / step : 0.9;
    return h(
      "g",
      {
        key: node.id,
        at: [x, y],
        class: words.join(" "),
        role: "button",
        "data-node": node.id,
        "aria-label": said.told,
        "aria-pressed": String(selected),
        tabindex: node.id === this.current ? "0" : "-1",
        on,
      },
      group ? h("rect", { class: "behind", x: 5, y: -5, width: NODE_W - 1, height: high, rx: 9 }) : null,
      h("rect", { class: "box", width: NODE_W, height: high, rx: 9 }),
      h("rect", { class: "bar", x: 0, y: 9, width: 4, height: high - 18, rx: 2 }),
      letters < LEGIBLE
        ? null
        : h(
            "text",
            { class: "name", x: far ? NODE_W / 2 + 2 : 14, y: far ? high / 2 : low ? 24 : 23 },
            fit(said.name, letters),
          ),
      low ? null : h("text", { class: "sub", x: 14, y: 41 }, fit(said.sub, said.health ? 17 : 20)),
      h("text", { class: "health", x: NODE_W - 12, y: low ? 24 : 41 }, said.health),
      said.severity === "bad" || said.severity === "warn"
        ? mark(said.severity, NODE_W - 9 * size, -8 * size, size)
        : null,
      h("title", {}, said.told),
    );
  }

  // --- who is where

  /** Services in reading order: column by column. */
  order() {
    const { view, made } = this.drawn;
    const places = view.nodes.map((node) => ({ id: node.id, ...made.places.get(node.id) }));
    return places.sort((a, b) => a.col - b.col || a.row - b.row).map((place) => place.id);
  }

  focused(id) {
    this.current = id;
    this.draw();
    if (!this.quiet) this.show(id);
  }

  hovered(id) {
    if (this.hover === id || this.hands.busy()) return;
    this.hover = id;
    this.draw();
  }

  has(id) {
    return this.drawn !== null && this.drawn.made.places.has(id);
  }

  /** @param quiet leave the window where it is */
  focus(id, quiet = false) {
    this.quiet = quiet;
    const node = [...this.viewport.querySelectorAll("[data-node]")].find((one) => one.dataset.node === id);
    if (node) node.focus({ preventScroll: true });
    this.quiet = false;
  }

  focusEdge(key) {
    const edge = [...this.viewport.querySelectorAll("[data-edge]")].find((one) => one.dataset.edge === key);
    if (edge) edge.focus({ preventScroll: true });
  }

  nodeKeys(event, id, open) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const way = event.shiftKey && PAN[event.key];
    if (way) {
      this.pan(way[0] * PAN_BY, way[1] * PAN_BY);
      event.preventDefault();
      event.stopPropagation();
      return;
    }
    const order = this.order();
    const next = {
      on: () => this.beside(id, 1),
      back: () => this.beside(id, -1),
      next: () => this.below(id, 1),
      last: () => this.below(id, -1),
      Home: () => order[0],
      End: () => order[order.length - 1],
    }[this.way(event.key)];
    if (next) {
      const to = next();
      if (to) this.focus(to);
    } else if (event.key === "Enter" || event.key === " ") {
      open();
    } else if (event.key === "e") {
      const calls = this.callsOf(id);
      if (calls.length) this.focusEdge(calls[0].key);
      this.from = id;
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  /** Where an arrow key leads: `on` to callees, `back` to callers, to the `next` or the `last` of those side by side. */
  way(key) {
    const ways = { ArrowRight: "on", ArrowLeft: "back", ArrowDown: "next", ArrowUp: "last" };
    const upright = { ArrowDown: "on", ArrowUp: "back", ArrowRight: "next", ArrowLeft: "last" };
    return (this.drawn.made.upright ? upright : ways)[key] ?? key;
  }

  edgeKeys(event, call) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const of = this.from === call.to ? call.to : call.from;
    const calls = this.callsOf(of);
    const index = calls.findIndex((other) => other.key === call.key);
    const way = this.way(event.key);
    if (way === "on") this.focus(call.to);
    else if (way === "back") this.focus(call.from);
    else if (way === "next") this.focusEdge(calls[(index + 1) % calls.length].key);
    else if (way === "last") this.focusEdge(calls[(index + calls.length - 1) % calls.length].key);
    else if (event.key === "Enter" || event.key === " ") this.on.select(call.of ? "group" : "edge", call);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** A service's calls: those that it makes, then those that it gets. */
  callsOf(id) {
    const { view, made } = this.drawn;
    const row = (name) => made.places.get(name).row;
    const out = view.edges.filter((call) => call.from === id).sort((a, b) => row(a.to) - row(b.to));
    const into = view.edges
      .filter((call) => call.to === id && call.from !== id)
      .sort((a, b) => row(a.from) - row(b.from));
    return [...out, ...into];
  }

  beside(id, way) {
    const { view, made } = this.drawn;
    const here = made.places.get(id);
    const tied = new Set(
      view.edges.flatMap((call) => (call.from === id ? [call.to] : call.to === id ? [call.from] : [])),
    );
    const there = view.nodes
      .map((node) => ({ id: node.id, ...made.places.get(node.id) }))
      .filter((place) => (place.col - here.col) * way > 0);
    const cost = (place) =>
      (tied.has(place.id) ? 0 : 1000) + Math.abs(place.col - here.col) * 3 + Math.abs(place.row - here.row);
    return nearest(there, cost);
  }

  below(id, way) {
    const { view, made } = this.drawn;
    const here = made.places.get(id);
    const there = view.nodes
      .map((node) => ({ id: node.id, ...made.places.get(node.id) }))
      .filter((place) => (place.row - here.row) * way > 0);
    return nearest(there, (place) => Math.abs(place.col - here.col) * 100 + Math.abs(place.row - here.row));
  }

  // --- the window on the map

  bounds() {
    const { made, view } = this.drawn;
    const all = view.nodes.map((node) => position(made, node.id));
    const xs = all.map((one) => one.x);
    const ys = all.map((one) => one.y);
    return {
      x: Math.min(...xs),
      y: Math.min(...ys),
      w: Math.max(...xs) - Math.min(...xs) + NODE_W,
      h: Math.max(...ys) - Math.min(...ys) + this.drawn.made.high,
    };
  }

  size() {
    return { w: this.svg.clientWidth || 800, h: this.svg.clientHeight || 500 };
  }

  fit() {
    this.touch(false);
    if (!this.drawn || !this.drawn.view.nodes.length) return;
    const [box, size] = [this.bounds(), this.size()];
    const k = Math.min(1.25, (size.w - 2 * MARGIN) / box.w, (size.h - 2 * MARGIN) / box.h);
    this.move(size.w / 2 - (box.x + box.w / 2) * k, size.h / 2 - (box.y + box.h / 2) * k, k);
  }

  isInside() {
    const [box, size, { x, y, k }] = [this.bounds(), this.size(), this.at];
    return (
      box.x * k + x >= 0 && box.y * k + y >= 0 && (box.x + box.w) * k + x <= size.w && (box.y + box.h) * k + y <= size.h
    );
  }

  move(x, y, k) {
    const scale = Math.min(ZOOM[1], Math.max(ZOOM[0], k));
    const again = this.step(scale) !== this.step(this.at.k);
    this.at = { x, y, k: scale };
    this.viewport.setAttribute("transform", `translate(${x} ${y}) scale(${scale})`);
    this.svg.style.setProperty("--step", String(this.step(scale)));
    if (again) this.draw();
  }

  /** Whether a person has moved the window on the map: it is not fitted by itself any more. */
  touch(touched) {
    this.touched = touched;
    this.svg.classList.toggle("is-whole", !touched);
  }

  step(k) {
    return STEPS.find((one) => one <= k) || STEPS[STEPS.length - 1];
  }

  /** Zoom by a factor around a point of the window, or around its middle. */
  zoom(factor, point) {
    const { w, h: height } = this.size();
    const { x: px, y: py } = point || { x: w / 2, y: height / 2 };
    const k = Math.min(ZOOM[1], Math.max(ZOOM[0], this.at.k * factor));
    this.touch(true);
    this.move(px - ((px - this.at.x) * k) / this.at.k, py - ((py - this.at.y) * k) / this.at.k, k);
  }

  pan(dx, dy) {
    this.touch(true);
    this.move(this.at.x + dx, this.at.y + dy, this.at.k);
  }

  /** Move the window as little as it takes to have the service in it; so small that nobody can read it, go nearer. */
  show(id, nearer = false) {
    if (!this.drawn.made.places.has(id)) return;
    if (nearer && this.at.k < 0.7) this.zoom(0.8 / this.at.k);
    const { x, y } = position(this.drawn.made, id);
    const { w, h: height } = this.size();
    const [left, top] = [x * this.at.k + this.at.x, y * this.at.k + this.at.y];
    const over = (from, length, room) =>
      from < MARGIN ? MARGIN - from : from + length > room - MARGIN ? room - MARGIN - from - length : 0;
    const [dx, dy] = [over(left, NODE_W * this.at.k, w), over(top, this.drawn.made.high * this.at.k, height)];
    if (dx || dy) this.pan(dx, dy);
  }

  listen() {
    const { svg } = this;
    this.hands = hands(svg, this);
    let width = 0;
    new ResizeObserver(() => {
      // A banner takes a little of the height: no reason to move a map that is still all there.
      const fits = svg.clientWidth === width && this.drawn && this.drawn.view.nodes.length && this.isInside();
      width = svg.clientWidth;
      if (!this.touched && !fits) this.fit();
    }).observe(svg);
  }
}

function nearest(places, cost) {
  let best = null;
  for (const place of places) if (!best || cost(place) < cost(best)) best = place;
  return best && best.id;
}

function weight(perSecond) {
  return perSecond >= 100 ? "w4" : perSecond >= 10 ? "w3" : perSecond >= 1 ? "w2" : "w1";
}

/** Success and p99, where somebody counted them. */
function numbers(call) {
  return call.p99 === null && call.success === null ? "not counted" : [percent(call.success), latency(call.p99)].join(" · ");
}

/** A call in words. */
export function tell(call) {
  const way = `${call.from.replace("\u0000", "") || "unknown callers"} to ${call.to.replace("\u0000", "")}`;
  if (call.silent) return `${way}: allowed to call, no requests seen`;
  const why = call.why.length && !call.of ? ` (${call.why.join(", ")})` : "";
  if (!call.requests && call.refusals.length) return `${way}: ${WORDS[call.severity]}${why}`;
  if (!call.requests && call.tcp) {
    const { connections, failed } = call.tcp;
    const ended = connections ? `, ${many(connections, "connection")} ended, ${count(failed)} of them badly` : "";
    return `${way}: TCP, ${octetRate(call.tcp)}${ended}; ${WORDS[call.severity]}${why}`;
  }
  if (!call.requests) return `${way}: no requests in the last minute`;
  const secured = lockWord(call) && `, ${lockWord(call)}`;
  const told = call.success === null ? "" : `, ${percent(call.success)} succeed, p99 ${latency(call.p99)}`;
  return `${way}: ${rate(call.rate)}${told}${secured}; ${WORDS[call.severity]}${why}`;
}

/** How far a rollout is that is under way. */
function wave(rollout) {
  if (!rollout || ["done", "superseded", "waiting"].includes(rollout.state)) return "";
  if (rollout.state === "halted") return "halted";
  const waves = Array.isArray(rollout.waves) ? rollout.waves : [];
  if (rollout.part !== "routes" || !waves.length) return String(rollout.part);
  const at = String(waves[waveOf(rollout.wave, waves)] ?? "");
  return at === "one" ? "wave 1" : at;
}

function ofService(one) {
  const outside = one.kind === "external" ? "outside of the mesh" : "not of the mesh";
  const health = one.kind === "mesh" ? `${one.healthy}/${one.instances}` : "";
  const told =
    one.kind === "mesh"
      ? `${one.name}: ${one.versions.length ? `${one.versions.length === 1 ? "version" : "versions"} ${one.versions.join(", ")}; ` : ""}${one.healthy} of ${many(one.instances, "instance")} healthy; ${WORDS[one.severity]}${one.why.length ? ` (${one.why.join(", ")})` : ""}`
      : `${one.name || "unknown callers"}: ${outside}`;
  return {
    name: one.name || "unknown callers",
    sub:
      one.kind === "mesh"
        ? [one.versions.join(", "), wave(one.rollout)].filter(Boolean).join(" · ") || "no version told"
        : outside,
    health,
    told,
    kind: one.kind,
    severity: one.severity,
  };
}

function ofGroup(node) {
  const sum = (field) => node.members.reduce((total, one) => total + one[field], 0);
  const rank =
    ["bad", "warn", "ok", "idle"].find((severity) => node.members.some((one) => one.severity === severity)) || "idle";
  const hurt = node.members.filter((one) => one.severity === "bad").length;
  const told = `group ${node.group}: ${many(node.members.length, "service")}, ${sum("healthy")} of ${many(sum("instances"), "instance")} healthy${hurt ? `, ${hurt} hurt` : ""}; opens`;
  return {
    name: node.group,
    sub: many(node.members.length, "service"),
    health: `${sum("healthy")}/${sum("instances")}`,
    told,
    kind: "group",
    severity: rank,
  };
}
