// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Whether `judge` sees what pods say. A datapath that skips netfilter (eBPF host routing, OVS) delivers their packets
 * without it: interfaces of pods count packets then, and `judge` none that explain them.
 */

import type { tdCounter } from '@tandem/datapath/abi.gen';
import type { LinkCounts } from '@tandem/netlink/link-counts';
import { bypassedPacketsMin, bypassedStepsMin, packetsPerJudgedMax } from '../limits.ts';

/** At one moment, since the node was booted. */
export interface TrafficCounts {
  /** Of pods' interfaces. */
  readonly interfaces: readonly LinkCounts[];
  /** Packets between pods and others that were judged, or dropped by any program. */
  readonly judged: number;
  /** Packets of pods' interfaces that are of another kind: with the node itself, steered DNS, neighbours. */
  readonly apart: number;
}

type CounterName = keyof typeof tdCounter;

/** From the kernel's counters, by lower-case name. */
export function judgedOf(
  counters: Readonly<Record<string, number>>,
): Omit<TrafficCounts, 'interfaces'> {
  const of = (name: CounterName): number => counters[name.toLowerCase()] ?? 0;
  const drops = Object.entries(counters).filter(([name]) => name.startsWith('drop_'));
  return {
    judged:
      of('FORWARDED') + of('RELATED') + of('AUDITED') + drops.reduce((sum, [, n]) => sum + n, 0),
    apart: of('HOST') + of('REDIRECTED') + of('NEIGHBOUR'),
  };
}

export class JudgeWatch {
  #last: TrafficCounts | null = null;
  #steps = 0;

  /** Comes every few seconds. A step in which pods say little tells nothing. */
  step(counts: TrafficCounts): void {
    const last = this.#last;
    this.#last = counts;
    if (last === null) return;
    const judged = counts.judged - last.judged;
    const apart = counts.apart - last.apart;
    // Counters of another map begin anew.
    if (judged < 0 || apart < 0) return;
    const packets = packetsBetween(last.interfaces, counts.interfaces) - apart;
    if (packets < bypassedPacketsMin) return;
    this.#steps = judged * packetsPerJudgedMax < packets ? this.#steps + 1 : 0;
  }

  get isBypassed(): boolean {
    return this.#steps >= bypassedStepsMin;
  }
}

/** Of interfaces that were there both times. */
function packetsBetween(before: readonly LinkCounts[], after: readonly LinkCounts[]): number {
  const earlier = new Map(before.map((each) => [each.ifindex, each]));
  let packets = 0;
  for (const { ifindex, received, sent } of after) {
    const first = earlier.get(ifindex);
    if (first === undefined) continue;
    packets += ((received - first.received) >>> 0) + ((sent - first.sent) >>> 0);
  }
  return packets;
}
