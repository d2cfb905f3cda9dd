// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The events shown last, to tell those that come again when the other process goes on: both hold most
 * events of the node, each in its own order. Bounded; an event older than the window may show twice.
 */

import type { ObserveResponse } from '@tandem/proto/gen/messages';
import { observeRecentEventsMax } from '../limits.ts';

export class RecentEvents {
  /** Insertion order is age. */
  readonly #keys = new Set<string>();

  /** False: it was there. */
  add(event: ObserveResponse): boolean {
    const key = keyOf(event);
    if (this.#keys.has(key)) return false;
    this.#keys.add(key);
    if (this.#keys.size > observeRecentEventsMax) {
      for (const oldest of this.#keys) {
        this.#keys.delete(oldest);
        break;
      }
    }
    return true;
  }
}

/** The kernel's clock and who it was about: the same in both processes. */
function keyOf({ dns, drop, lostEvents }: ObserveResponse): string {
  if (lostEvents !== null) {
    return `l ${lostEvents.timeNs} ${lostEvents.reason} ${lostEvents.count}`;
  }
  if (dns !== null) return `q ${dns.timeNs} ${dns.endpointId} ${dns.qtype} ${dns.member}`;
  if (drop === null) return '';
  return `d ${drop.timeNs} ${drop.endpointId} ${drop.sourcePort} ${drop.destinationPort}`;
}
