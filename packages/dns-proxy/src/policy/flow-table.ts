// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Verdicts of policy on (client, server, protocol), remembered so that a query costs one lookup. Open addressing over typed
 * arrays; the hash is keyed, since pods choose what is hashed. Emptied whenever `endpoints` or the policy snapshot changes,
 * and when it is full.
 */

import type { Branded } from '@tandem/core/brand';
import { spread, wordHashNumbers, wordTerm } from '@tandem/core/word-hash';
import { flowTableEntries } from '../limits.ts';

/** Client, server, protocol. */
const keyWords = 9;

/** Index of an entry of the table, or -1. */
export type Flow = Branded<'Flow'>;

/** A remembered answer. `denied` kinds are not remembered: they must be asked again. */
export class FlowTable {
  readonly #mask: number;
  readonly #keys: Uint32Array;
  readonly #used: Uint8Array;
  readonly #numbers: Int32Array;
  #count = 0;

  /** Values by index; written by the caller after `insert`. */
  readonly endpointSlot: Int32Array;
  readonly ruleSet: Int32Array;
  /** Slot of the flow's policy in the limits. */
  readonly policySlot: Int32Array;
  /** Handle of its server in the UDP transport; 0 until a query was forwarded. */
  readonly server: Int32Array;
  readonly policyId: Uint32Array;
  readonly namespaceId: Uint32Array;
  /** 1: answers of this server count for the selectors of all policies. */
  readonly trusted: Uint8Array;

  /** `entries`: a power of two. */
  constructor(seed: number, entries: number = flowTableEntries) {
    this.#numbers = wordHashNumbers(seed, keyWords);
    this.#mask = entries - 1;
    this.#keys = new Uint32Array(entries * keyWords);
    this.#used = new Uint8Array(entries);
    this.endpointSlot = new Int32Array(entries);
    this.ruleSet = new Int32Array(entries);
    this.policySlot = new Int32Array(entries);
    this.server = new Int32Array(entries);
    this.policyId = new Uint32Array(entries);
    this.namespaceId = new Uint32Array(entries);
    this.trusted = new Uint8Array(entries);
  }

  /** Index of the entry, or -1. `client` and `server` are word offsets of 4-word addresses in `words`. */
  find(words: Uint32Array, client: number, server: number, protocol: number): Flow {
    let index = this.#hash(words, client, server, protocol);
    for (;;) {
      if (this.#used[index] === 0) return -1 as Flow;
      if (this.#equals(index, words, client, server, protocol)) return index as Flow;
      index = (index + 1) & this.#mask;
    }
  }

  /** Takes an entry for the tuple, which must not be there; empties the table first if it is 3/4 full. */
  insert(words: Uint32Array, client: number, server: number, protocol: number): Flow {
    if (this.#count >= (this.#used.length >> 2) * 3) this.clear();
    let index = this.#hash(words, client, server, protocol);
    while (this.#used[index] !== 0) index = (index + 1) & this.#mask;
    this.#used[index] = 1;
    this.#count += 1;
    const key = index * keyWords;
    for (let i = 0; i < 4; i++) {
      this.#keys[key + i] = words[client + i]!;
      this.#keys[key + 4 + i] = words[server + i]!;
    }
    this.#keys[key + 8] = protocol;
    return index as Flow;
  }

  clear(): void {
    this.#used.fill(0);
    this.#count = 0;
  }

  get size(): number {
    return this.#count;
  }

  #hash(words: Uint32Array, client: number, server: number, protocol: number): number {
    const numbers = this.#numbers;
    let sum = wordTerm(numbers, 1, protocol, numbers[0]!);
    for (let i = 0; i < 4; i++) {
      sum = wordTerm(numbers, 3 + 2 * i, words[client + i]!, sum);
      sum = wordTerm(numbers, 11 + 2 * i, words[server + i]!, sum);
    }
    return spread(sum) & this.#mask;
  }

  #equals(
    index: number,
    words: Uint32Array,
    client: number,
    server: number,
    protocol: number,
  ): boolean {
    const keys = this.#keys;
    const key = index * keyWords;
    if (keys[key + 8] !== protocol) return false;
    for (let i = 0; i < 4; i++) {
      if (keys[key + i] !== words[client + i] || keys[key + 4 + i] !== words[server + i])
        return false;
    }
    return true;
  }
}
