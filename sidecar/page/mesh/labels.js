// Where the label of each call stands: on its line, where it covers least. Pure, and a function of the layout alone, so that
// no label moves as its numbers do.

import { LABELLED } from "./layout.js";

export const LABEL_W = 106;
export const LABEL_H = 36;
const BOX_COST = 4; // Of a square pixel of a service or another label that is covered.
const LINE_COST = 60; // Of a point of another call's line.
const CELL = 160;

/**
 * Give each line its `label` ({x, y}, the middle), and take the `spots` that it could stand on away.
 * @param drawn key -> {spots, trace}: of each call's line
 * @param boxes of the services: [{x, y (the middle), w, h}]
 */
export function placeLabels(drawn, boxes) {
  const crowd = new Crowd();
  for (const box of boxes) crowd.add(box, null);
  // Where few have a label at a time, lines are too many to be looked at: half a second for 200 services.
  const looked = drawn.size <= LABELLED ? drawn : [];
  for (const [key, { trace }] of looked) for (const { x, y } of trace) crowd.add({ x, y, w: 0, h: 0 }, key);
  // Who can choose least chooses first.
  const turn = [...drawn].sort((a, b) => a[1].spots.length - b[1].spots.length || (a[0] < b[0] ? -1 : 1));
  for (const [key, line] of turn) {
    const costs = line.spots.map((spot) => crowd.cost(spot, key));
    line.label = line.spots[costs.indexOf(Math.min(...costs))];
    crowd.add({ ...line.label, w: LABEL_W, h: LABEL_H }, null);
    delete line.spots;
  }
}

/** What is on the map already, found by where it is. */
class Crowd {
  constructor() {
    this.cells = new Map();
  }

  /** @param line whose line a point is of; null for a box */
  add(box, line) {
    for (const cell of cellsOf(box)) {
      if (!this.cells.has(cell)) this.cells.set(cell, []);
      this.cells.get(cell).push({ ...box, line });
    }
  }

  /** What a label with its middle there covers; a box in several cells counts in each, which does no harm. */
  cost({ x, y }, own) {
    let sum = 0;
    for (const cell of cellsOf({ x, y, w: LABEL_W, h: LABEL_H })) {
      for (const other of this.cells.get(cell) || []) {
        const w = (other.w + LABEL_W) / 2 - Math.abs(other.x - x);
        const h = (other.h + LABEL_H) / 2 - Math.abs(other.y - y);
        if (w <= 0 || h <= 0 || other.line === own) continue;
        sum += other.line === null ? BOX_COST * w * h : LINE_COST;
      }
    }
    return sum;
  }
}

function cellsOf({ x, y, w, h }) {
  const cells = [];
  for (let i = Math.floor((x - w / 2) / CELL); i <= Math.floor((x + w / 2) / CELL); i += 1) {
    for (let j = Math.floor((y - h / 2) / CELL); j <= Math.floor((y + h / 2) / CELL); j += 1) cells.push(`${i} ${j}`);
  }
  return cells;
}
