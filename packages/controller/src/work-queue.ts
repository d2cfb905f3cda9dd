// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Keys of objects that are to be written: each waits once, however often it is added, is worked at by one worker at a
 * time, and again when it was added meanwhile. Bounded in number and in pace; a key that failed waits longer each time.
 * Namespaces take turns, so that the many objects of one do not hold up those of others.
 */

import { retryFirstMs, retryMaxMs } from './limits.ts';
import { TurnSet } from './turn-set.ts';

export type WorkOutcome =
  | { readonly kind: 'done' }
  /** `afterMs`: at least; 0: as long as failures before it say. */
  | { readonly kind: 'retry'; readonly afterMs: number }
  /** Nothing of this queue for so long, then this key again. */
  | { readonly kind: 'pause'; readonly forMs: number };

export const done: WorkOutcome = { kind: 'done' };

export interface WorkQueueOptions {
  readonly work: (key: string) => Promise<WorkOutcome>;
  readonly atOnce: number;
  readonly perSecond: number;
  readonly burst: number;
  readonly keysMax: number;
  /** The queue is empty after it had refused keys. */
  readonly onRoom?: () => void;
}

export class WorkQueue {
  readonly counters = { added: 0, refused: 0, retried: 0, paused: 0 };
  readonly #o: WorkQueueOptions;
  readonly #ready = new TurnSet();
  readonly #delayed = new Map<string, NodeJS.Timeout>();
  readonly #running = new Set<string>();
  readonly #again = new Set<string>();
  readonly #failures = new Map<string, number>();
  #tokens: number;
  #refilledMs = performance.now();
  #pausedUntilMs = 0;
  #hasRefused = false;
  #wake: NodeJS.Timeout | null = null;
  #isStopped = false;

  constructor(options: WorkQueueOptions) {
    this.#o = options;
    this.#tokens = options.burst;
  }

  /** Keys that wait or are worked at. */
  get length(): number {
    return this.#ready.size + this.#delayed.size + this.#running.size;
  }

  /** Whether it is full, and the key was left out. */
  add(key: string): boolean {
    if (this.#isStopped) return false;
    if (this.#running.has(key)) {
      this.#again.add(key);
      return false;
    }
    // A change is a reason to try at once.
    clearTimeout(this.#delayed.get(key));
    this.#delayed.delete(key);
    if (!this.#ready.has(key) && this.length >= this.#o.keysMax) {
      this.counters.refused += 1;
      this.#hasRefused = true;
      return true;
    }
    this.counters.added += 1;
    this.#ready.add(key);
    this.#pump();
    return false;
  }

  /** There is nothing to do for it any more. */
  forget(key: string): void {
    clearTimeout(this.#delayed.get(key));
    this.#delayed.delete(key);
    this.#ready.delete(key);
    this.#again.delete(key);
    this.#failures.delete(key);
  }

  /** Nothing begins after it. */
  stop(): void {
    this.#isStopped = true;
    if (this.#wake !== null) clearTimeout(this.#wake);
    for (const timer of this.#delayed.values()) clearTimeout(timer);
    this.#delayed.clear();
    this.#ready.clear();
  }

  #pump(): void {
    if (this.#isStopped) return;
    const nowMs = performance.now();
    const { perSecond, burst, atOnce } = this.#o;
    const earnedTokens = ((nowMs - this.#refilledMs) / 1000) * perSecond;
    this.#tokens = Math.min(burst, this.#tokens + earnedTokens);
    this.#refilledMs = nowMs;
    if (nowMs < this.#pausedUntilMs) {
      this.#wakeIn(this.#pausedUntilMs - nowMs);
      return;
    }
    while (this.#ready.size > 0) {
      if (this.#running.size >= atOnce) return;
      if (this.#tokens < 1) {
        this.#wakeIn(((1 - this.#tokens) / perSecond) * 1000);
        return;
      }
      this.#tokens -= 1;
      const key = this.#ready.take();
      this.#running.add(key);
      void this.#run(key);
    }
    if (this.length > 0 || !this.#hasRefused) return;
    this.#hasRefused = false;
    this.#o.onRoom?.();
  }

  #wakeIn(ms: number): void {
    if (this.#wake !== null) clearTimeout(this.#wake);
    this.#wake = setTimeout(() => this.#pump(), Math.ceil(ms));
  }

  async #run(key: string): Promise<void> {
    const outcome = await this.#o.work(key);
    this.#running.delete(key);
    if (this.#isStopped) return;
    const isAgain = this.#again.delete(key);
    if (outcome.kind === 'done') this.#failures.delete(key);
    if (outcome.kind === 'pause') {
      this.counters.paused += 1;
      this.#pausedUntilMs = performance.now() + outcome.forMs;
      this.#ready.add(key);
    } else if (isAgain) {
      this.#ready.add(key);
    } else if (outcome.kind === 'retry') {
      this.counters.retried += 1;
      this.#delay(key, outcome.afterMs);
    }
    this.#pump();
  }

  #delay(key: string, afterMs: number): void {
    const failures = this.#failures.get(key) ?? 0;
    this.#failures.set(key, failures + 1);
    const boundMs = Math.min(retryMaxMs, retryFirstMs * 2 ** Math.min(failures, 16));
    const waitMs = Math.max(afterMs, boundMs * (0.5 + Math.random() / 2));
    const timer = setTimeout(() => {
      this.#delayed.delete(key);
      this.#ready.add(key);
      this.#pump();
    }, waitMs);
    this.#delayed.set(key, timer);
  }
}
