// When each question is asked again: as often as it is worth, and never so often that the sidecar is kept busy by it.

import { Unreachable } from "./client.js";

// A question that takes the sidecar long is asked seldom: each takes it a fiftieth of the time at most, if nothing else is
// said.
const SHARE = 50;
const LOOKS = 3; // Of which the quickest counts: what the browser's own work adds is not the sidecar's.
const LOST_MS = 5000;

/** A question that is asked again and again while the page is seen. */
export class Question {
  /**
   * @param everyMs from one answer to the next question, at least
   * @param put asks, and resolves to the answer
   * @param take takes the answer in
   * @param share of how many times what it took there is to be a pause
   * @param lost is told an error of the kind `Unreachable`, if it wants to know
   */
  constructor(everyMs, put, take, { lost = () => {}, share = SHARE } = {}) {
    this.everyMs = everyMs;
    this.put = put;
    this.take = take;
    this.lost = lost;
    this.share = share;
    this.timer = null;
    this.isAsked = false;
    this.isAskedAgain = false;
    this.tookMs = [];
    this.failures = 0;
  }

  /** Ask now, or as soon as the answer that is awaited is there: that one may have been given before something happened. */
  async ask() {
    clearTimeout(this.timer);
    if (document.hidden) return;
    if (this.isAsked) {
      this.isAskedAgain = true;
      return;
    }
    this.isAsked = true;
    const began = performance.now();
    try {
      const said = await this.put();
      this.tookMs = [...this.tookMs, performance.now() - began].slice(-LOOKS);
      this.failures = 0;
      this.take(said);
    } catch (error) {
      this.failures += 1;
      if (!(error instanceof Unreachable)) throw error;
      this.lost(error);
    } finally {
      const waitMs = this.isAskedAgain ? 0 : this.waitMs();
      this.isAsked = this.isAskedAgain = false;
      this.timer = setTimeout(() => this.ask(), waitMs);
    }
  }

  /** Until it is asked again, in milliseconds. */
  waitMs() {
    // What was gone for a moment is asked again as usual: a sidecar that restarts is back soon.
    if (this.failures > 1) return Math.max(this.everyMs, LOST_MS);
    const took = this.tookMs.length < LOOKS ? 0 : Math.min(...this.tookMs);
    return Math.max(this.everyMs, took * this.share);
  }
}
