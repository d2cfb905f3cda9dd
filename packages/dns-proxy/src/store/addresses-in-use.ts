// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Addresses that stay usable after their names expired because an open connection uses them
 * (docs/adr/0010-addresses-in-use.md): until when, as `judge` would say, and the sweep of what is past.
 */

import { BatchCursor, type BpfMap } from '@tandem/bpf-loader-node/map';
import {
  TD_FQDN_PAGES_MAX,
  TD_FQDN_SELECTORS_MAX,
  tdFqdn,
  tdFqdnKey,
  tdFqdnLive,
  tdFqdnLiveKey,
  tdFqdnSlot,
  tdLiveCounter,
} from '@tandem/datapath/abi.gen';
import { readPerCpu } from '@tandem/datapath/counters';
import { expiryStepEntries } from './limits.ts';

export interface AddressesInUseOptions {
  readonly fqdn: Pick<BpfMap, 'lookupInto'>;
  /** Null while the agent is of a version that does not know these maps: then no address is in use. */
  readonly live: () => Pick<BpfMap, 'lookupInto' | 'lookupBatch' | 'delete'> | null;
  readonly counters: () => Pick<BpfMap, 'lookupInto' | 'valueBytes'> | null;
  /** How long after its expiry an address in use takes new connections; 0: never. */
  readonly liveSeconds: number;
  readonly stepEntries?: number;
}

export class AddressesInUse {
  /** Since construction: entries found past their time. */
  swept = 0;
  readonly #o: AddressesInUseOptions;
  readonly #stepEntries: number;
  readonly #pageKey = new Uint8Array(tdFqdnKey.size);
  readonly #page = new Uint8Array(tdFqdn.size);
  readonly #slots = new Uint32Array(this.#page.buffer);
  readonly #useKey = new Uint8Array(tdFqdnLiveKey.size);
  readonly #useSelector = new Uint32Array(this.#useKey.buffer, tdFqdnLiveKey.selector, 1);
  readonly #use = new Uint8Array(tdFqdnLive.size);
  readonly #useWords = new Uint32Array(this.#use.buffer);
  readonly #keys: Uint8Array;
  readonly #values: Uint8Array;
  readonly #valueWords: Uint32Array;
  #cursor: BatchCursor | null = null;

  constructor(options: AddressesInUseOptions) {
    const { stepEntries = expiryStepEntries } = options;
    this.#o = options;
    this.#stepEntries = stepEntries;
    this.#keys = new Uint8Array(stepEntries * tdFqdnLiveKey.size);
    this.#values = new Uint8Array(stepEntries * tdFqdnLive.size);
    this.#valueWords = new Uint32Array(this.#values.buffer);
  }

  /** Boottime seconds; 0: not in use by any selector. The time may be past. */
  until(addresses: Uint8Array, at: number): number {
    const { fqdn, liveSeconds } = this.#o;
    const live = liveSeconds === 0 ? null : this.#o.live();
    if (live === null) return 0;
    const key = this.#pageKey;
    for (let i = 0; i < 16; i++) key[i] = addresses[at + i]!;
    this.#useKey.set(key.subarray(0, 16));
    let latest = 0;
    // The last page first: a pair that moves meanwhile (pages_pack()) goes to a page that is read after.
    for (let number = TD_FQDN_PAGES_MAX - 1; number >= 0; number--) {
      key[tdFqdnKey.page] = number;
      if (!fqdn.lookupInto(key, this.#page)) continue;
      for (let s = 0; s < TD_FQDN_SELECTORS_MAX; s++) {
        latest = Math.max(latest, this.#slotUntil(live, s));
      }
    }
    return latest;
  }

  /** End of the use of slot `s` of the page that was read, or of the time in which use counts. */
  #slotUntil(live: Pick<BpfMap, 'lookupInto'>, s: number): number {
    const slot = (tdFqdn.slot + s * tdFqdnSlot.size) / 4;
    const selector = this.#slots[slot + tdFqdnSlot.selector / 4]!;
    if (selector === 0) return 0;
    this.#useSelector[0] = selector;
    if (!live.lookupInto(this.#useKey, this.#use)) return 0;
    const bound = this.#slots[slot + tdFqdnSlot.expires_s / 4]! + this.#o.liveSeconds;
    return Math.min(this.#useWords[tdFqdnLive.until_s / 4]!, bound);
  }

  /** Forgets past entries, one step; true at the end of a walk. The next use of an address notes it again. */
  step(nowSeconds: number): boolean {
    const map = this.#o.live();
    if (map === null) return true;
    this.#cursor ??= new BatchCursor(tdFqdnLiveKey.size);
    const cursor = this.#cursor;
    const count = map.lookupBatch(cursor, this.#keys, this.#values, this.#stepEntries);
    for (let i = 0; i < count; i++) {
      const until = this.#valueWords[(i * tdFqdnLive.size + tdFqdnLive.until_s) / 4]!;
      // Signed, as all time arithmetic.
      if (((until - nowSeconds) | 0) > 0) continue;
      const key = i * tdFqdnLiveKey.size;
      if (map.delete(this.#keys.subarray(key, key + tdFqdnLiveKey.size))) this.swept += 1;
    }
    if (!cursor.isDone) return false;
    this.#cursor = null;
    return true;
  }

  /** New connections that passed by it. */
  get passed(): number {
    return this.#counter(tdLiveCounter.PASSED);
  }

  /** Uses that found the map full. */
  get full(): number {
    return this.#counter(tdLiveCounter.FULL);
  }

  #counter(index: number): number {
    const map = this.#o.counters();
    return map === null ? 0 : readPerCpu(map, index);
  }
}
