// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Namespaces that have mappings in the FQDN cache, each under a small id, and how much of the cache each has. */

import type { HashKey } from '../dns/name-hash.ts';
import { HashIndex } from './hash-index.ts';
import { IdPool } from './id-pool.ts';

export class NamespaceTable {
  /** Mappings, names, and blocks of names of each namespace, by its id here; those of id 0, and of ids without namespace, are 0. */
  readonly entries: Int32Array;
  readonly names: Int32Array;
  readonly blocks: Int32Array;
  readonly #key: HashKey;
  readonly #pool: IdPool;
  readonly #index: HashIndex;
  readonly #namespaceId: Int32Array;

  constructor(capacity: number, key: HashKey) {
    this.#key = key;
    this.#pool = new IdPool(capacity);
    this.#index = new HashIndex(capacity);
    this.#namespaceId = new Int32Array(capacity + 1);
    this.entries = new Int32Array(capacity + 1);
    this.names = new Int32Array(capacity + 1);
    this.blocks = new Int32Array(capacity + 1);
  }

  /** 0: it has no mapping. */
  find(namespaceId: number): number {
    const hash = this.#hash(namespaceId);
    let namespace = this.#index.first(hash);
    while (namespace !== 0 && this.#namespaceId[namespace] !== namespaceId) {
      namespace = this.#index.next(hash);
    }
    return namespace;
  }

  /** 0: there is no room for one more. */
  add(namespaceId: number): number {
    const namespace = this.#pool.take();
    if (namespace === 0) return 0;
    this.#namespaceId[namespace] = namespaceId;
    this.entries[namespace] = 0;
    this.#index.insert(this.#hash(namespaceId), namespace);
    return namespace;
  }

  /** Forgets it if it has no mapping any more. */
  dropEmpty(namespace: number): void {
    if (this.entries[namespace] !== 0) return;
    this.#index.remove(namespace);
    this.#pool.give(namespace);
  }

  /** The namespace that has most by `used`, one of the arrays above; of several the one with the lowest id, as at the other process. */
  largest(used: Int32Array): number {
    let largest = 0;
    for (let namespace = 1; namespace <= this.#pool.highest; namespace++) {
      const more = used[namespace]! - used[largest]!;
      if (more < 0 || used[namespace] === 0) continue;
      if (more > 0 || this.idOf(namespace) < this.idOf(largest)) largest = namespace;
    }
    return largest;
  }

  idOf(namespace: number): number {
    return this.#namespaceId[namespace]!;
  }

  #hash(namespaceId: number): number {
    const mixed = Math.imul(namespaceId ^ this.#key.low, 0x9e3779b1);
    return mixed ^ (mixed >>> 15);
  }
}
