// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Gives memory back after changes. What many changes leave behind is little, but spread over pages that V8 keeps: a third
 * of the process after some hundred. Collecting takes the main thread tenths of a second, so it is done when nothing was
 * applied for a while, and when it is worth it.
 */

import { collectStartGarbage } from '@tandem/dns-proxy/start-garbage';
import { garbageGrowthBytesMin, garbageQuietLooks } from './limits.ts';

export interface QuietGarbageOptions {
  /** Bytes of resident memory. */
  readonly rss: () => number;
  readonly collect: () => void;
}

export class QuietGarbage {
  readonly #o: QuietGarbageOptions;
  #applied = 0;
  #quiet = 0;
  /** After the last collection; 0: there was none. */
  #floor = 0;

  constructor(
    options: QuietGarbageOptions = {
      rss: () => process.memoryUsage.rss(),
      collect: collectStartGarbage,
    },
  ) {
    this.#o = options;
  }

  /** Every few seconds. `applied`: how many changes were put in force so far. */
  look(applied: number): void {
    this.#quiet = applied === this.#applied ? this.#quiet + 1 : 0;
    this.#applied = applied;
    if (this.#quiet !== garbageQuietLooks) return;
    if (this.#o.rss() - this.#floor < garbageGrowthBytesMin) return;
    this.#o.collect();
    this.#floor = this.#o.rss();
  }
}
