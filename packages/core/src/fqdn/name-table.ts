// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Names of the FQDN cache: one record for each name of a namespace in a scope. The names of a namespace are listed,
 * least recently learned first.
 */

import { assert } from '../assert.ts';
import { type HashKey, hashBytes } from '../dns/name-hash.ts';
import { HashIndex } from './hash-index.ts';
import { IdPool } from './id-pool.ts';
import { NameStore } from './name-store.ts';
import { RecencyLists } from './recency-lists.ts';

export interface NameTableOptions {
  readonly key: HashKey;
  readonly namesMax: number;
  readonly blocksMax: number;
  readonly namespacesMax: number;
}

export class NameTable {
  /** Columns of a record: its namespace, by the id of `NamespaceTable`; its scope; its mappings; octets of its name. */
  readonly namespace: Int32Array;
  readonly scope: Int32Array;
  readonly entries: Int32Array;
  readonly length: Uint8Array;
  readonly ofNamespace: RecencyLists;
  readonly #key: HashKey;
  readonly #pool: IdPool;
  readonly #index: HashIndex;
  readonly #store: NameStore;
  readonly #firstBlock: Int32Array;

  constructor({ key, namesMax, blocksMax, namespacesMax }: NameTableOptions) {
    this.#key = key;
    this.#pool = new IdPool(namesMax);
    this.#index = new HashIndex(namesMax);
    this.#store = new NameStore(blocksMax);
    this.#firstBlock = new Int32Array(namesMax + 1);
    this.length = new Uint8Array(namesMax + 1);
    this.namespace = new Int32Array(namesMax + 1);
    this.scope = new Int32Array(namesMax + 1);
    this.entries = new Int32Array(namesMax + 1);
    this.ofNamespace = new RecencyLists(namesMax, namespacesMax);
  }

  get used(): number {
    return this.#pool.used;
  }

  get blocks(): number {
    return this.#store.used;
  }

  /** No record is free, however short the name. */
  get isFull(): boolean {
    return this.#pool.used === this.#pool.capacity;
  }

  hasRoom(nameLength: number): boolean {
    return !this.isFull && this.#store.hasRoom(nameLength);
  }

  hash(name: Uint8Array, nameLength: number, namespaceId: number, scope: number): number {
    // Ids are ours, not a pod's: folding them into the keyed hash needs no key.
    const ids = Math.imul(namespaceId, 0x9e3779b1) ^ Math.imul(scope, 0x85ebca6b);
    return hashBytes(name, 0, nameLength, this.#key) ^ ids;
  }

  /** 0: it is not known. `hash`: by `hash`. */
  find(
    name: Uint8Array,
    nameLength: number,
    namespace: number,
    scope: number,
    hash: number,
  ): number {
    let record = this.#index.first(hash);
    for (; record !== 0; record = this.#index.next(hash)) {
      if (this.namespace[record] !== namespace || this.scope[record] !== scope) continue;
      if (this.length[record] !== nameLength) continue;
      if (this.#store.equals(this.#firstBlock[record]!, name, nameLength)) break;
    }
    return record;
  }

  /** Room was made before. */
  add(
    name: Uint8Array,
    nameLength: number,
    namespace: number,
    scope: number,
    hash: number,
  ): number {
    const record = this.#pool.take();
    assert(record !== 0, 'room was made');
    this.#firstBlock[record] = this.#store.add(name, nameLength);
    this.length[record] = nameLength;
    this.namespace[record] = namespace;
    this.scope[record] = scope;
    this.entries[record] = 0;
    this.#index.insert(hash, record);
    this.ofNamespace.append(namespace, record);
    return record;
  }

  remove(record: number): void {
    this.ofNamespace.remove(this.namespace[record]!, record);
    this.#index.remove(record);
    this.#store.remove(this.#firstBlock[record]!);
    this.#pool.give(record);
  }

  /** Writes the name to `target`. */
  read(record: number, target: Uint8Array): void {
    this.#store.read(this.#firstBlock[record]!, this.length[record]!, target);
  }
}
