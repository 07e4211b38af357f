// How a call is drawn between two services: around those that stand between, and with a label where there is room.
// Pure, and a function of the layout alone.
//
// All of it is reckoned as if calls led to the right, and turned in the end where they lead down.

import { placeLabels } from "./labels.js";
import { NODE_W, edgeKey, position } from "./layout.js";

const TRACE = Array.from({ length: 24 }, (_, i) => i / 23); // Where along a line it is looked at.
const APART = 7; // Between two lines that pass the same services.
const byName = (a, b) => (a < b ? -1 : a > b ? 1 : 0);

/**
 * @param made a layout
 * @param edges [[caller, callee], ...], all in the layout
 * @returns key -> {d (the line), tip (its arrow's head), label: {x, y} (its middle), back (drawn backwards)}
 */
export function paths(made, edges) {
  const { broad, upright } = made;
  const turned = ({ x, y }) => (upright ? { x: y, y: x } : { x, y });
  const boxes = new Map([...made.places.keys()].map((name) => [name, turned(position(made, name))]));
  const columns = new Map();
  for (const [name, place] of made.places) {
    if (!columns.has(place.col)) columns.set(place.col, []);
    columns.get(place.col).push(boxes.get(name).y + broad / 2);
  }
  for (const middles of columns.values()) middles.sort((a, b) => a - b);
  const ports = portsOf(edges, made, boxes);
  const drawn = new Map();
  const passed = new Map();
  const sorted = [...edges].sort((a, b) => byName(edgeKey(...a), edgeKey(...b)));
  for (const [from, to] of sorted) {
    const key = edgeKey(from, to);
    const forward = made.places.get(from).col < made.places.get(to).col;
    const line = forward ? along(from, to, made, boxes, columns, ports, passed) : around(from, to, made, boxes);
    drawn.set(key, {
      d: line.steps.map(([step, ...points]) => step + points.map((point) => at(turned(point))).join(" ")).join(""),
      tip: tip(turned(line.tip.at), upright ? TURNED[line.tip.way] : line.tip.way),
      spots: line.spots.map(turned),
      trace: line.trace.map(turned),
      back: !forward,
    });
  }
  placeLabels(
    drawn,
    [...boxes.values()].map(turned).map(({ x, y }) => ({
      x: x + NODE_W / 2,
      y: y + made.high / 2,
      w: NODE_W,
      h: made.high,
    })),
  );
  return drawn;
}

/** Calls leave and reach a service's sides one below the other, in the order of where they lead. */
function portsOf(edges, made, boxes) {
  const sides = new Map();
  for (const [from, to] of edges) {
    if (made.places.get(from).col >= made.places.get(to).col) continue;
    for (const [end, other] of [
      [`>${from}`, to],
      [`<${to}`, from],
    ]) {
      if (!sides.has(end)) sides.set(end, []);
      sides.get(end).push(other);
    }
  }
  const ports = new Map();
  for (const [end, others] of sides) {
    others.sort((a, b) => boxes.get(a).y - boxes.get(b).y || boxes.get(a).x - boxes.get(b).x || byName(a, b));
    const room = Math.min(made.broad - 18, (others.length - 1) * (made.upright ? 20 : 10));
    others.forEach((other, i) => {
      ports.set(`${end}\u0000${other}`, others.length > 1 ? (i / (others.length - 1) - 0.5) * room : 0);
    });
  }
  return ports;
}

function along(from, to, made, boxes, columns, ports, passed) {
  const start = {
    x: boxes.get(from).x + made.long,
    y: boxes.get(from).y + made.broad / 2 + ports.get(`>${from}\u0000${to}`),
  };
  const end = { x: boxes.get(to).x - 7, y: boxes.get(to).y + made.broad / 2 + ports.get(`<${to}\u0000${from}`) };
  const points = [start];
  for (let col = made.places.get(from).col + 1; col < made.places.get(to).col; col += 1) {
    const x = col * (made.long + made.gap);
    const last = points[points.length - 1];
    const straight = last.y + ((end.y - last.y) * (x + made.long / 2 - last.x)) / (end.x - last.x);
    if (!passed.has(col)) passed.set(col, []);
    const y = passing(straight, columns.get(col) || [], made.broad / 2 + made.clear, passed.get(col));
    passed.get(col).push(y);
    points.push({ x, y }, { x: x + made.long, y });
  }
  points.push(end);
  const steps = [["M", start]];
  const spots = [];
  const trace = [];
  for (let i = 1; i < points.length; i += 1) {
    const [a, b] = [points[i - 1], points[i]];
    if (a.y === b.y) {
      steps.push(["L", b]);
      spots.push({ x: Math.round((a.x + b.x) / 2), y: Math.round(a.y) });
      for (const t of TRACE) trace.push({ x: a.x + (b.x - a.x) * t, y: a.y });
      continue;
    }
    const bend = Math.min((b.x - a.x) / 2, 120);
    const curve = [a, { x: a.x + bend, y: a.y }, { x: b.x - bend, y: b.y }, b];
    steps.push(["C", curve[1], curve[2], b]);
    for (const t of [0.5, 0.42, 0.58, 0.34, 0.66, 0.26, 0.74, 0.18, 0.82]) spots.push(on(curve, t));
    for (const t of TRACE) trace.push(on(curve, t));
  }
  return { steps, tip: { at: end, way: "right" }, spots, trace };
}

/**
 * The height nearest to `y` that is `away` from every service of a column, and apart from lines that pass there already;
 * two lines share a height where there is no room for two.
 */
function passing(y, middles, away, passed) {
  const clear = (height) => middles.every((middle) => Math.abs(middle - height) >= away - 0.01);
  const near = (a, b) => Math.abs(a - y) - Math.abs(b - y) || a - b;
  const free = clear(y)
    ? y
    : (middles
        .flatMap((middle) => [middle - away, middle + away])
        .filter(clear)
        .sort(near)[0] ?? y);
  const beside = [0, 1, -1, 2, -2, 3, -3].map((step) => free + step * APART).filter(clear);
  return beside.find((height) => passed.every((other) => Math.abs(other - height) >= APART - 1)) ?? free;
}

/** To the left, or within a column: out below the caller and in from below, or a loop above. */
function around(from, to, made, boxes) {
  const [a, b] = [boxes.get(from), boxes.get(to)];
  if (from === to) {
    const [x, y] = [a.x + made.long / 2, a.y];
    const curve = [
      { x: x + 22, y },
      { x: x + 46, y: y - 34 },
      { x: x - 46, y: y - 34 },
      { x: x - 22, y: y - 7 },
    ];
    const steps = [
      ["M", curve[0]],
      ["C", ...curve.slice(1)],
    ];
    return { steps, tip: { at: curve[3], way: "down" }, spots: [{ x, y: y - 26 }], trace: [] };
  }
  const start = { x: a.x + made.long * 0.4, y: a.y + made.broad };
  const end = { x: b.x + made.long * 0.6, y: b.y + made.broad + 7 };
  const dip = Math.max(start.y, end.y) + Math.max(26, (made.row - made.broad) * 0.8);
  const curve = [start, { x: start.x, y: dip }, { x: end.x, y: dip }, end];
  return {
    steps: [
      ["M", start],
      ["C", ...curve.slice(1)],
    ],
    tip: { at: end, way: "up" },
    spots: [0.5, 0.4, 0.6, 0.3, 0.7].map((t) => on(curve, t)),
    trace: TRACE.map((t) => on(curve, t)),
  };
}

const TIPS = {
  right: "m0,-4.5l7,4.5l-7,4.5z",
  down: "m-4.5,0l4.5,7l4.5,-7z",
  up: "m-4.5,0l4.5,-7l4.5,7z",
  left: "m0,-4.5l-7,4.5l7,4.5z",
};
const TURNED = { right: "down", down: "right", up: "left" };

/** The head of an arrow that begins there. */
const tip = (point, way) => `M${at(point)}${TIPS[way]}`;

const at = ({ x, y }) => `${Math.round(x * 10) / 10},${Math.round(y * 10) / 10}`;

function on([a, b, c, d], t) {
  const u = 1 - t;
  const axis = (k) => u * u * u * a[k] + 3 * u * u * t * b[k] + 3 * u * t * t * c[k] + t * t * t * d[k];
  return { x: Math.round(axis("x")), y: Math.round(axis("y")) };
}
