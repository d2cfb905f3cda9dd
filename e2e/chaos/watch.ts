// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * When a victim beat last, and when the other member stood in for it. The beat is read from the `group`
 * map every few milliseconds; the moment is the one that the survivor itself writes into its log (with `log-level` debug), from
 * its main thread, so it is a little later than the truth and never earlier.
 */

import { Datapath } from '@tandem/datapath/datapath';
import { NodeGroup } from '@tandem/datapath/group';
import { agentMember, type MemberIndex, proxyMember } from '@tandem/datapath/member';
import type { ProcessName, TandemNode } from '../kit/tandem-node.ts';

const sampleIntervalMs = 5;
const samplesMax = 200_000;
const stoodIn = /^(\S+) DEBUG .*this member answers for the other/;

/** CLOCK_MONOTONIC in milliseconds: the clock of beats, records and marks. */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

export const memberIndex: Readonly<Record<ProcessName, MemberIndex>> = {
  agent: agentMember,
  proxy: proxyMember,
};

interface Sample {
  readonly atMs: number;
  /** By member index. */
  readonly beatsMs: readonly number[];
}

/** The survivor took over from `victim`. */
export interface Eviction {
  readonly victim: ProcessName;
  readonly atMs: number;
  readonly sinceLastBeatMs: number;
}

export class MemberWatch implements Disposable {
  readonly #tandem: TandemNode;
  readonly #group: NodeGroup;
  readonly #samples: Sample[] = [];
  readonly #timer: NodeJS.Timeout;
  /** Wall-clock time of the log minus CLOCK_MONOTONIC. */
  readonly #offsetMs = Date.now() - monotonicMs();
  readonly #startedMs = monotonicMs();

  constructor(tandem: TandemNode) {
    this.#tandem = tandem;
    using datapath = Datapath.open(tandem.pinRoot);
    this.#group = new NodeGroup(datapath.map('group').mmap());
    this.#timer = setInterval(() => this.#sample(), sampleIntervalMs);
    this.#sample();
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  #sample(): void {
    const beatsMs = [agentMember, proxyMember].map((index) => this.#group.beatNsOf(index) / 1e6);
    this.#samples.push({ atMs: monotonicMs(), beatsMs });
    if (this.#samples.length > samplesMax) this.#samples.shift();
  }

  /** Evictions in the survivors' logs since this watch began, in order. */
  evictions(): Eviction[] {
    const found: Eviction[] = [];
    for (const [survivor, victim] of [
      ['agent', 'proxy'],
      ['proxy', 'agent'],
    ] as const) {
      for (const line of this.#tandem.process(survivor).stderr().split('\n')) {
        const time = stoodIn.exec(line)?.[1];
        if (time === undefined) continue;
        // Written in whole milliseconds, rounded down.
        const atMs = Date.parse(time) + 1 - this.#offsetMs;
        if (atMs < this.#startedMs) continue;
        const beatMs = this.#lastBeatMs(memberIndex[victim], atMs);
        if (beatMs > 0) found.push({ victim, atMs, sinceLastBeatMs: atMs - beatMs });
      }
    }
    return found.toSorted((a, b) => a.atMs - b.atMs);
  }

  /** The newest beat that was seen by then; 0 if none was. */
  #lastBeatMs(index: number, atMs: number): number {
    const sample = this.#samples.findLast((candidate) => candidate.atMs <= atMs);
    return sample?.beatsMs[index] ?? 0;
  }
}
