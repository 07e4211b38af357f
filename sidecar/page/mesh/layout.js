// Where the services stand: callers left, callees right; in an upright window callers above, callees below. Pure, and a
// function of names alone: no number moves anything. A column is what stands side by side in the direction of calls.
//
// A layout that exists is kept. When services or calls come and go, whoever can stay stays: a service that left leaves
// its place free, a new one takes the free place nearest to its neighbours, and a service moves only when a new call
// would otherwise point to the left, and then no further than it must. A call that closes a circle moves nobody: it is
// drawn backwards.
//
// A layout:
//   places   name -> {tier, col, row}; rows may be halves; two of one column are at least a row apart
//   columns  tier -> the columns that it has, from left to right
//   back     keys of the calls that are drawn backwards
//   upright  whether callers are above
//   long     a service's length in the direction of calls, `broad` across; `gap` the space between columns, `row` from a
//            row to the next, `high` a service's height, `clear` what a line keeps from a service that it passes: pixels

export const NODE_W = 158;
export const LABELLED = 24; // Calls, up to which each has a label, and columns leave room for it.
const DENSE = 60; // Services, from which on they are drawn low and near.
// `clear`: between a line and a service that it passes. `row` is the least, and grows to `most` where there is space.
const SPACING = {
  labelled: { gap: 128, row: 98, most: 250, high: 54, clear: 25 },
  plain: { gap: 84, row: 80, most: 150, high: 54, clear: 9 },
  dense: { gap: 46, row: 62, most: 62, high: 38, clear: 9 },
};
const UPRIGHT = {
  labelled: { gap: 94, row: 182, most: 240, high: 54, clear: 24 },
  plain: { gap: 60, row: 176, most: 200, high: 54, clear: 9 },
  dense: { gap: 40, row: 172, most: 172, high: 38, clear: 7 },
};
const ASPECT = 1.55; // Of the drawing, its length to its breadth: about that of the space that it gets.
const SWEEPS = 8;

const byName = (a, b) => (a < b ? -1 : a > b ? 1 : 0);

export const edgeKey = (from, to) => JSON.stringify([from, to]);

/**
 * @param names of services
 * @param edges [[caller, callee], ...]; of unknown names are ignored
 * @param previous a layout to keep, or null
 * @param upright whether callers are above; of `previous` the same
 */
export function layout(names, edges, previous, upright = false) {
  const nodes = [...new Set(names)].sort(byName);
  const known = new Set(nodes);
  const unique = new Map();
  for (const [from, to] of edges) {
    if (known.has(from) && known.has(to)) unique.set(edgeKey(from, to), [from, to]);
  }
  const calls = [...unique.keys()].sort(byName).map((key) => unique.get(key));
  const signature = JSON.stringify([nodes, calls]);
  if (previous && previous.signature === signature) return previous;
  const kept = previous && nodes.some((name) => previous.places.has(name));
  const result = kept ? adapt(nodes, calls, previous) : fresh(nodes, calls, upright);
  result.signature = signature;
  result.calls = new Set(unique.keys());
  return result;
}

/** The left upper corner of a service, in pixels. */
export function position(made, name) {
  const { col, row } = made.places.get(name);
  const [along, across] = [col * (made.long + made.gap), row * made.row];
  return made.upright ? { x: across, y: along } : { x: along, y: across };
}

function fresh(nodes, calls, upright) {
  const { tiers, back } = tiersOf(nodes, calls);
  const touched = new Set(calls.filter(([from, to]) => from !== to).flat());
  const loose = nodes.filter((name) => !touched.has(name));
  const order = ordered(
    nodes.filter((name) => touched.has(name)),
    calls,
    tiers,
    back,
  );
  const spacing = (upright ? UPRIGHT : SPACING)[nodes.length > DENSE ? "dense" : calls.length > LABELLED ? "plain" : "labelled"];
  const sides = upright ? { long: spacing.high, broad: NODE_W } : { long: NODE_W, broad: spacing.high };
  const made = { places: new Map(), columns: [], back, upright, ...sides, ...spacing };
  const height = rowsFor(
    order.map((tier) => tier.length),
    made,
  );
  let columns = 0;
  order.forEach((tier) => {
    const width = Math.max(1, Math.ceil(tier.length / height));
    made.columns.push(Array.from({ length: width }, (_, i) => columns + i));
    columns += width;
  });
  const depth = Math.max(0, ...order.map((tier, t) => Math.ceil(tier.length / made.columns[t].length)));
  order.forEach((tier, t) => {
    const cols = made.columns[t];
    const lift = (depth - Math.ceil(tier.length / cols.length)) / 2;
    // Row by row over the tier's columns: the order from top to bottom is the one with few crossings.
    tier.forEach((name, i) => {
      made.places.set(name, { tier: t, col: cols[i % cols.length], row: Math.floor(i / cols.length) + lift });
    });
  });
  align(order, calls, made, back);
  placeLoose(loose, made);
  const rows = Math.max(0, ...[...made.places.values()].map((place) => place.row)) + 1;
  const room = (made.columns.flat().length * (made.long + made.gap)) / ASPECT / rows;
  made.row = Math.round(Math.max(made.row, Math.min(made.most, room)));
  return made;
}

/** How many rows a column may have, for the drawing to fill the space that it gets. */
function rowsFor(sizes, { long, gap, row }) {
  for (let rows = 8; ; rows += 1) {
    const columns = sizes.reduce((sum, size) => sum + Math.ceil(size / rows), 0);
    if (columns * (long + gap) <= ASPECT * rows * row || rows >= Math.max(...sizes, 0)) return rows;
  }
}

/** Tiers by the longest way from a service that nobody calls, over all calls but those that close a circle. */
function tiersOf(nodes, calls) {
  const callees = neighbours(nodes, calls, 0);
  const called = new Set(calls.filter(([from, to]) => from !== to).map(([, to]) => to));
  const back = new Set();
  const state = new Map();
  const done = [];
  // Depth first, without recursion: a chain may be longer than the stack.
  for (const root of [...nodes.filter((name) => !called.has(name)), ...nodes]) {
    if (state.has(root)) continue;
    const stack = [[root, 0]];
    state.set(root, "open");
    while (stack.length) {
      const top = stack[stack.length - 1];
      const next = callees.get(top[0])[top[1]];
      top[1] += 1;
      if (next === undefined) {
        state.set(top[0], "done");
        done.push(top[0]);
        stack.pop();
      } else if (state.get(next) === "open") {
        back.add(edgeKey(top[0], next));
      } else if (!state.has(next)) {
        state.set(next, "open");
        stack.push([next, 0]);
      }
    }
  }
  const tiers = new Map(nodes.map((name) => [name, 0]));
  for (const name of done.reverse()) {
    for (const to of callees.get(name)) {
      if (!back.has(edgeKey(name, to))) tiers.set(to, Math.max(tiers.get(to), tiers.get(name) + 1));
    }
  }
  return { tiers, back };
}

function neighbours(nodes, calls, end) {
  const found = new Map(nodes.map((name) => [name, []]));
  for (const call of calls) found.get(call[end]).push(call[1 - end]);
  return found;
}

/** The names of each tier from top to bottom: each goes where the middle of its neighbours is, sweep after sweep. */
function ordered(nodes, calls, tiers, back) {
  const order = [];
  for (const name of nodes) (order[tiers.get(name)] = order[tiers.get(name)] || []).push(name);
  for (let t = 0; t < order.length; t += 1) order[t] = order[t] || [];
  const forward = calls.filter(([from, to]) => !back.has(edgeKey(from, to)));
  const sides = [
    neighbours(nodes, forward.filter(inside(nodes)), 1),
    neighbours(nodes, forward.filter(inside(nodes)), 0),
  ];
  const rank = new Map();
  const number = (tier) => tier.forEach((name, i) => rank.set(name, (i + 0.5) / tier.length));
  order.forEach(number);
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    const side = sides[sweep % 2];
    const turn = sweep % 2 ? [...order].reverse() : order;
    for (const tier of turn) {
      const middle = new Map(
        tier.map((name) => {
          const near = side.get(name);
          return [
            name,
            near.length ? near.reduce((sum, other) => sum + rank.get(other), 0) / near.length : rank.get(name),
          ];
        }),
      );
      tier.sort((a, b) => middle.get(a) - middle.get(b) || rank.get(a) - rank.get(b) || byName(a, b));
      number(tier);
    }
  }
  return order;
}

function inside(nodes) {
  const set = new Set(nodes);
  return ([from, to]) => set.has(from) && set.has(to);
}

/**
 * In tiers of one column, move each service to the height of its neighbours, as near as its order and a row's distance
 * allow: the least sum of squares, by pooling adjacent violators.
 */
function align(order, calls, made, back) {
  const names = [...made.places.keys()];
  const forward = calls.filter(
    ([from, to]) => !back.has(edgeKey(from, to)) && made.places.has(from) && made.places.has(to),
  );
  const sides = [neighbours(names, forward, 1), neighbours(names, forward, 0)];
  for (let pass = 0; pass < 4; pass += 1) {
    const turn = pass % 2 ? [...order].reverse() : order;
    for (const tier of turn) {
      if (!tier.length || made.columns[made.places.get(tier[0]).tier].length > 1) continue;
      const wanted = tier.map((name) => {
        const near = sides[pass % 2].get(name);
        const own = made.places.get(name).row;
        return near.length ? near.reduce((sum, other) => sum + made.places.get(other).row, 0) / near.length : own;
      });
      spread(wanted).forEach((row, i) => {
        made.places.get(tier[i]).row = row;
      });
    }
  }
  const top = Math.min(...[...made.places.values()].map((place) => place.row));
  for (const place of made.places.values()) place.row -= top;
}

function spread(wanted) {
  const blocks = [];
  wanted.forEach((row, i) => {
    blocks.push({ sum: row - i, size: 1 });
    while (blocks.length > 1 && mean(blocks[blocks.length - 2]) > mean(blocks[blocks.length - 1])) {
      const last = blocks.pop();
      blocks[blocks.length - 1].sum += last.sum;
      blocks[blocks.length - 1].size += last.size;
    }
  });
  return blocks.flatMap((block) => Array(block.size).fill(Math.round(mean(block) * 2) / 2)).map((row, i) => row + i);
}

const mean = (block) => block.sum / block.size;

/** Services without any call stand below all others, row by row. */
function placeLoose(loose, made) {
  const rows = [...made.places.values()].map((place) => place.row);
  const first = rows.length ? Math.ceil(Math.max(...rows)) + 1.5 : 0;
  const width = Math.max(made.columns.flat().length, Math.ceil(Math.sqrt(loose.length * 0.8)), 1);
  while (loose.length && made.columns.flat().length < width) made.columns.push([made.columns.flat().length]);
  loose.forEach((name, i) => {
    const col = i % width;
    const tier = made.columns.findIndex((cols) => cols.includes(col));
    made.places.set(name, { tier, col, row: first + Math.floor(i / width), loose: true });
  });
}

function adapt(nodes, calls, previous) {
  const places = new Map();
  for (const name of nodes) {
    if (previous.places.has(name)) places.set(name, { ...previous.places.get(name) });
  }
  const made = {
    places,
    columns: previous.columns.map((cols) => [...cols]),
    back: new Set(),
  };
  for (const name of ["upright", "long", "broad", "gap", "row", "high", "clear"]) made[name] = previous[name];
  const touched = new Set(calls.filter(([from, to]) => from !== to).flat());
  // Who had no call stood apart, and takes a place among the others with the first one.
  for (const name of nodes) if (places.has(name) && places.get(name).loose && touched.has(name)) places.delete(name);
  const wish = tiersOf(nodes, calls).tiers;
  const callers = neighbours(nodes, calls, 1);
  const callees = neighbours(nodes, calls, 0);
  const tier = new Map([...places].map(([name, place]) => [name, place.tier]));
  const anew = nodes.filter((name) => !places.has(name)).sort((a, b) => wish.get(a) - wish.get(b) || byName(a, b));
  for (const name of anew) tier.set(name, tierFor(name, callers, callees, tier));
  const forward = new Map(nodes.map((name) => [name, []]));
  const known = ([from, to]) => previous.calls.has(edgeKey(from, to));
  // Calls that were there come first: what they agreed on stands, and the new one is what closes a circle.
  for (const [from, to] of [...calls.filter(known), ...calls.filter((call) => !known(call))]) {
    const key = edgeKey(from, to);
    if (from === to || (previous.back.has(key) && tier.get(to) <= tier.get(from)) || reaches(forward, to, from)) {
      made.back.add(key);
      continue;
    }
    forward.get(from).push(to);
    raise(from, forward, tier);
  }
  const moving = nodes.filter((name) => !places.has(name) || places.get(name).tier !== tier.get(name));
  for (const name of moving) places.delete(name);
  moving.sort((a, b) => tier.get(a) - tier.get(b) || byName(a, b));
  for (const name of moving) {
    if (!touched.has(name)) continue;
    while (made.columns.length <= tier.get(name)) made.columns.push([Math.max(-1, ...made.columns.flat()) + 1]);
    const near = [...callers.get(name), ...callees.get(name)].filter((other) => places.has(other));
    places.set(
      name,
      freePlace(
        made,
        tier.get(name),
        near.map((other) => places.get(other).row),
      ),
    );
  }
  for (const name of moving.filter((other) => !touched.has(other))) {
    const lowest = Math.max(-1, ...[...places.values()].map((place) => place.row));
    const apart = [...places.values()].filter((place) => place.loose).map((place) => place.row);
    places.set(name, { ...freePlace(made, 0, [apart.length ? Math.max(...apart) : lowest + 1.5]), loose: true });
  }
  return made;
}

function tierFor(name, callers, callees, tier) {
  const left = callers
    .get(name)
    .filter((other) => tier.has(other))
    .map((other) => tier.get(other));
  if (left.length) return Math.max(...left) + 1;
  const right = callees
    .get(name)
    .filter((other) => tier.has(other))
    .map((other) => tier.get(other));
  return right.length ? Math.max(0, Math.min(...right) - 1) : 0;
}

function reaches(forward, from, to) {
  const seen = new Set([from]);
  const open = [from];
  while (open.length) {
    const name = open.pop();
    if (name === to) return true;
    for (const next of forward.get(name)) {
      if (!seen.has(next)) {
        seen.add(next);
        open.push(next);
      }
    }
  }
  return false;
}

/** Whoever is called from `name` stands to its right, and so on; there is no circle in `forward`. */
function raise(name, forward, tier) {
  const open = [name];
  while (open.length) {
    const from = open.pop();
    for (const to of forward.get(from)) {
      if (tier.get(to) <= tier.get(from)) {
        tier.set(to, tier.get(from) + 1);
        open.push(to);
      }
    }
  }
}

/** The free place of a tier that is nearest to the middle of these rows. */
function freePlace(made, tier, rows) {
  const middle = rows.length ? Math.round((rows.reduce((sum, row) => sum + row, 0) / rows.length) * 2) / 2 : 0;
  for (let step = 0; ; step += 1) {
    const away = (step % 2 ? -1 : 1) * Math.ceil(step / 2) * 0.5;
    const row = middle + away;
    if (row < 0) continue;
    for (const col of made.columns[tier]) {
      const taken = [...made.places.values()].some((place) => place.col === col && Math.abs(place.row - row) < 1);
      if (!taken) return { tier, col, row };
    }
  }
}
