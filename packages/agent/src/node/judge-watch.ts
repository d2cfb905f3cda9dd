// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Whether `judge` sees what pods say. A datapath that skips netfilter (eBPF host routing, OVS) delivers their packets
 * without it: interfaces of pods count packets then, and `judge` none that explain them.
 */

import { availableParallelism } from 'node:os';
import type { Ifindex } from '@tandem/core/ids';
import type { tdCounter } from '@tandem/datapath/abi.gen';
import type { LinkCounts } from '@tandem/netlink/link-counts';
import {
  bypassedPacketsMin,
  bypassedQueuedMax,
  bypassedStepsMin,
  packetsPerJudgedMax,
} from '../limits.ts';

/** Counters of one interface. */
type Packets = Pick<LinkCounts, 'ifindex' | 'received' | 'sent'>;

/** Since the programs were loaded. */
export interface JudgedCounts {
  /** Packets between pods and others that were judged, or dropped by any program. */
  readonly judged: number;
  /**
   * Packets of pods' interfaces that are of another kind: with the node itself, steered DNS, neighbours; and fragments to pods beyond the
   * one that `judge` saw as a whole packet, with as many from pods.
   */
  readonly apart: number;
}

/**
 * One look. On a starved node seconds may lie between two readings of one look, and in the next look none: the counters
 * are read on both sides of the interfaces, so that none that explain a packet are missed.
 */
export interface TrafficCounts {
  /** Read before the interfaces. */
  readonly before: JudgedCounts;
  /** Counters of pods' interfaces at the node's end, since the node was booted. */
  readonly interfaces: readonly Packets[];
  /** Read after the interfaces. */
  readonly after: JudgedCounts;
}

type CounterName = keyof typeof tdCounter;

/** From the kernel's counters, by lower-case name. */
export function judgedOf(counters: Readonly<Record<string, number>>): JudgedCounts {
  const of = (name: CounterName): number => counters[name.toLowerCase()] ?? 0;
  const drops = Object.entries(counters).filter(([name]) => name.startsWith('drop_'));
  return {
    judged:
      of('FORWARDED') + of('RELATED') + of('AUDITED') + drops.reduce((sum, [, n]) => sum + n, 0),
    // Twice, for an interface counts twice the direction in which it has fewer.
    apart: of('HOST') + of('REDIRECTED') + of('NEIGHBOUR') + 2 * of('TAILS'),
  };
}

export class JudgeWatch {
  /** Packets that may wait for a CPU in the kernel, counted by their interface and not yet by a program. */
  readonly #queuedMax: number;
  #last: TrafficCounts | null = null;
  /** Packets that nothing explains, of the looks since all were explained. */
  #unexplained = 0;
  #steps = 0;

  constructor(cpus: number = availableParallelism()) {
    this.#queuedMax = cpus * bypassedQueuedMax;
  }

  /**
   * Interfaces whose one direction has more packets than the other, the most lopsided first, where this look would be evidence of a
   * bypass if each direction counted by itself. There are none while all is well.
   */
  lopsided(counts: TrafficCounts): readonly Ifindex[] {
    const unexplained = this.#unexplainedOf(counts, () => true);
    if (unexplained === null || unexplained < bypassedPacketsMin) return [];
    const excessOf = ({ received, sent }: Packets): number => Math.abs(received - sent);
    return packetsBetween(this.#last?.interfaces ?? [], counts.interfaces)
      .filter((packets) => excessOf(packets) > 0)
      .toSorted((left, right) => excessOf(right) - excessOf(left))
      .map(({ ifindex }) => ifindex);
  }

  /**
   * Comes every few seconds. A look in which pods send little proves nothing. Packets that wait for a CPU at one look are
   * explained by a later one, in which there are fewer packets than what explains them: so looks are summed up.
   *
   * `diverted`: interfaces at which a program of another datapath may take the pod's packets away, and deliver them to another pod past
   * that one's interface (bpf_redirect_peer).
   */
  step(counts: TrafficCounts, diverted: ReadonlySet<Ifindex>): void {
    const unexplained = this.#unexplainedOf(counts, (ifindex) => diverted.has(ifindex));
    this.#last = counts;
    if (unexplained === null) return;
    const sum = Math.max(0, this.#unexplained + unexplained);
    // Not more, so that a bypass of days is over as soon as one of seconds.
    this.#unexplained = Math.min(sum, 2 * this.#queuedMax);
    if (this.#unexplained === 0) this.#steps = 0;
    else if (unexplained >= bypassedPacketsMin) this.#steps += 1;
  }

  get isBypassed(): boolean {
    return this.#steps >= bypassedStepsMin && this.#unexplained > this.#queuedMax;
  }

  /**
   * Packets since the last look beyond those that explain them; null: not known. As many of each direction of an interface count as of the
   * other, unless `isDiverted`: a pod alone can send any number that the node drops before `judge` (with a TTL of 1, to a Service without
   * endpoints), but a bypassed connection has answers.
   */
  #unexplainedOf(counts: TrafficCounts, isDiverted: (ifindex: Ifindex) => boolean): number | null {
    const last = this.#last;
    if (last === null) return null;
    const judged = counts.after.judged - last.before.judged;
    const apart = counts.after.apart - last.before.apart;
    // Counters of another map begin at 0.
    if (judged < 0 || apart < 0) return null;
    let packets = 0;
    for (const { ifindex, received, sent } of packetsBetween(last.interfaces, counts.interfaces)) {
      packets += isDiverted(ifindex) ? received + sent : 2 * Math.min(received, sent);
    }
    return packets - apart - judged * packetsPerJudgedMax;
  }
}

/** Differences of the interfaces that both readings have. */
function packetsBetween(before: readonly Packets[], after: readonly Packets[]): readonly Packets[] {
  const earlier = new Map(before.map((each) => [each.ifindex, each]));
  return after.flatMap(({ ifindex, received, sent }) => {
    const first = earlier.get(ifindex);
    if (first === undefined) return [];
    const since = { received: (received - first.received) >>> 0, sent: (sent - first.sent) >>> 0 };
    return [{ ifindex, ...since }];
  });
}
