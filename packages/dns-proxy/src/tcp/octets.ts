// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Bounds the octets that TCP holds for endpoints: queries until they are answered, replies until the client has taken
 * them. A connection without room leaves its octets in the kernel, where TCP's window stops the sender.
 */

import {
  ownerSlotsMax,
  tcpOctetsGuaranteed,
  tcpOctetsMax,
  tcpOctetsPerEndpointMax,
} from '../limits.ts';
import type { EndpointSlot } from '../policy/owner-slots.ts';

export class TcpOctets {
  readonly #held: Int32Array;
  #total = 0;

  constructor(owners: number = ownerSlotsMax) {
    this.#held = new Int32Array(owners);
  }

  /** Octets held for all endpoints. */
  get total(): number {
    return this.#total;
  }

  /** Octets held for the endpoint. */
  of(endpointSlot: EndpointSlot): number {
    return this.#held[endpointSlot]!;
  }

  /**
   * Takes room; false if there is none now. `tcpOctetsGuaranteed` have room for every endpoint, whatever the
   * others hold.
   */
  take(endpointSlot: EndpointSlot, octets: number): boolean {
    if (!this.hasRoom(endpointSlot, octets)) return false;
    this.#held[endpointSlot]! += octets;
    this.#total += octets;
    return true;
  }

  /** Whether `take` would succeed. */
  hasRoom(endpointSlot: EndpointSlot, octets: number): boolean {
    const mine = this.#held[endpointSlot]! + octets;
    if (mine <= tcpOctetsGuaranteed) return true;
    return mine <= tcpOctetsPerEndpointMax && this.#total + octets <= tcpOctetsMax;
  }

  giveBack(endpointSlot: EndpointSlot, octets: number): void {
    this.#held[endpointSlot]! -= octets;
    this.#total -= octets;
  }
}
