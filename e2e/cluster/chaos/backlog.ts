// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Packets that the kernel dropped because a CPU's backlog was full (`/proc/net/softnet_stat`). All nodes share the backlogs of one
 * machine with everything else that runs on it: a query that is lost then is lost by no program of the cluster.
 */

import { readFileSync } from 'node:fs';
import { monotonicMs } from '../../chaos/watch.ts';

const sampleMs = 50;
const droppedColumn = 1;
const namedMax = 8;

export class BacklogDrops implements Disposable {
  readonly #drops: { readonly atMs: number; readonly packets: number }[] = [];
  readonly #timer: NodeJS.Timeout;
  #before = readDropped();

  constructor() {
    this.#timer = setInterval(() => this.#look(), sampleMs);
  }

  /** '' when none was dropped. Times are milliseconds since `startedMs`, of CLOCK_MONOTONIC. */
  text(startedMs: number): string {
    this.#look();
    if (this.#drops.length === 0) return '';
    const packets = this.#drops.reduce((sum, each) => sum + each.packets, 0);
    const times = this.#drops.map((each) => (each.atMs - startedMs).toFixed(0));
    const named = times.slice(0, namedMax).join(', ');
    const more = times.length > namedMax ? ` and ${times.length - namedMax} more` : '';
    return `the machine dropped ${packets} packets at full backlogs, at ${named}${more} ms`;
  }

  #look(): void {
    const now = readDropped();
    if (now === this.#before) return;
    this.#drops.push({ atMs: monotonicMs(), packets: now - this.#before });
    this.#before = now;
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}

/** Drops of all CPUs since the machine started. */
function readDropped(): number {
  return readFileSync('/proc/net/softnet_stat', 'utf8')
    .split('\n')
    .map((line) => Number.parseInt(line.split(' ')[droppedColumn] ?? '', 16))
    .filter((count) => !Number.isNaN(count))
    .reduce((sum, count) => sum + count, 0);
}
