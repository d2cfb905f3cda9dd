// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Names whose answers contained an address; an event of a dropped packet shows them beside the address. The index over the
 * name cache is made on demand and used for some seconds.
 */

import type { FqdnCache } from '@tandem/core/fqdn/cache';
import { FqdnRecord } from '@tandem/core/fqdn/mapping';
import { observePeerNamesMax } from '@tandem/proto/limits';
import { peerNamesAgeMs } from './limits.ts';

const keyOf = (address: Uint8Array): string =>
  Buffer.from(address.buffer, address.byteOffset, 16).toString('latin1');

export class PeerNames {
  readonly #cache: FqdnCache;
  readonly #nowMs: () => number;
  #names = new Map<string, Uint8Array[]>();
  #madeMs = -Infinity;

  constructor(cache: FqdnCache, nowMs: () => number) {
    this.#cache = cache;
    this.#nowMs = nowMs;
  }

  /** At most `observePeerNamesMax` names, wire form. */
  of(address: Uint8Array): readonly Uint8Array[] {
    const now = this.#nowMs();
    if (now - this.#madeMs > peerNamesAgeMs) {
      this.#make();
      this.#madeMs = now;
    }
    return this.#names.get(keyOf(address)) ?? [];
  }

  #make(): void {
    const record = new FqdnRecord();
    this.#names = new Map();
    const cache = this.#cache;
    for (let entry = cache.nextEntry(1); entry !== 0; entry = cache.nextEntry(entry + 1)) {
      cache.read(entry, record);
      const key = keyOf(record.address);
      const names = this.#names.get(key);
      const name = record.name.slice(0, record.nameLength);
      if (names === undefined) this.#names.set(key, [name]);
      // The same name may be there in several namespaces and scopes.
      else if (names.length < observePeerNamesMax && !names.some((known) => isSame(known, name))) {
        names.push(name);
      }
    }
  }
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}
