// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The FQDN cache: which addresses were answered for which names, until when, who asked, and for whom
 * they count. It holds what `learn` has written to the datapath in a form that can be listed, joined
 * with the other process's, and searched when a selector is new.
 *
 * A mapping is a name and an address, in a namespace (whose pod asked: its quota pays) and a scope
 * (0: answered by a trusted resolver, counts for every policy; else the id of the one policy it counts
 * for). Namespaces share no mappings: a full namespace evicts its own oldest one, and none can extend or shorten another's. If
 * the whole cache is full, the namespace that uses most of the exhausted resource (mappings, names, octets of names) evicts its
 * oldest mapping for one that uses less: else a few namespaces could keep all others out. Memory is allocated at construction and touched as
 * needed; only the indexes grow.
 *
 *     namespace -> names, least recently learned first -> addresses, least recently learned first
 */

import { assert } from '../assert.ts';
import { type HashKey, hashBytes } from '../dns/name-hash.ts';
import {
  fqdnAddressesPerNameMax,
  fqdnAheadSecondsMax,
  fqdnEntriesMax,
  fqdnEntriesPerNamespaceMax,
  fqdnNameBlocksMax,
  fqdnNamesMax,
  fqdnNamespacesMax,
  fqdnPlacesPerUse,
  nameBytesMax,
} from '../limits.ts';
import { HashIndex } from './hash-index.ts';
import { IdPool } from './id-pool.ts';
import {
  type FqdnCacheOptions,
  FqdnCounters,
  type FqdnRecord,
  type FqdnStatus,
  fqdnAdded,
  fqdnExtended,
  fqdnRefused,
  fqdnUnchanged,
  type UsedUntil,
} from './mapping.ts';
import { blocksOf, blocksPerNameMax } from './name-store.ts';
import { NameTable } from './name-table.ts';
import { NamespaceTable } from './namespace-table.ts';
import { RecencyLists } from './recency-lists.ts';

export class FqdnCache {
  readonly counters: FqdnCounters = new FqdnCounters();
  readonly #key: HashKey;
  readonly #entriesPerNamespaceMax: number;
  readonly #addressesPerNameMax: number;

  readonly #entries: IdPool;
  readonly #entryIndex: HashIndex;
  /** Name of each entry; 0 for an id that is not in use. */
  readonly #entryName: Int32Array;
  readonly #entryAddress: Uint8Array;
  readonly #entryExpires: Uint32Array;
  /** Until when an expired entry stays: asked of `UsedUntil`. */
  readonly #entryKept: Uint32Array;
  readonly #entriesOfName: RecencyLists;

  readonly #names: NameTable;
  readonly #namespaces: NamespaceTable;

  /** Where the next `expire` goes on. */
  #expireFrom = 1;
  /** No mapping lives longer. By the last `expire`, and so unknown before the first. */
  #expiresMax = Infinity;

  constructor(options: FqdnCacheOptions) {
    const entriesMax = options.entriesMax ?? fqdnEntriesMax;
    const namesMax = options.namesMax ?? fqdnNamesMax;
    const namespacesMax = options.namespacesMax ?? fqdnNamespacesMax;
    const blocksMax = options.nameBlocksMax ?? fqdnNameBlocksMax;
    assert(blocksMax >= blocksPerNameMax, 'the longest name fits');
    this.#key = options.key;
    this.#entriesPerNamespaceMax = options.entriesPerNamespaceMax ?? fqdnEntriesPerNamespaceMax;
    this.#addressesPerNameMax = options.addressesPerNameMax ?? fqdnAddressesPerNameMax;
    assert(this.#entriesPerNamespaceMax >= 1, 'a namespace may have a mapping');
    assert(this.#addressesPerNameMax >= 1, 'a name may have an address');
    this.#entries = new IdPool(entriesMax);
    this.#entryIndex = new HashIndex(entriesMax);
    this.#entryName = new Int32Array(entriesMax + 1);
    this.#entryAddress = new Uint8Array((entriesMax + 1) * 16);
    this.#entryExpires = new Uint32Array(entriesMax + 1);
    this.#entryKept = new Uint32Array(entriesMax + 1);
    this.#entriesOfName = new RecencyLists(entriesMax, namesMax);
    this.#names = new NameTable({ key: options.key, namesMax, blocksMax, namespacesMax });
    this.#namespaces = new NamespaceTable(namespacesMax, options.key);
  }

  /** Mappings, expired ones that `expire` has not met yet included. */
  get size(): number {
    return this.#entries.used;
  }

  /** Names x namespaces x scopes. */
  get nameCount(): number {
    return this.#names.used;
  }

  /** Blocks of `nameBlockBytes` octets that hold names. */
  get nameBlocks(): number {
    return this.#names.blocks;
  }

  /** Mappings of one namespace. */
  sizeOfNamespace(namespaceId: number): number {
    return this.#namespaces.entries[this.#namespaces.find(namespaceId)]!;
  }

  /**
   * Adds a mapping, or extends it: an expiry never gets earlier. `name` is lower-case wire form of
   * `nameLength` octets, the address 16 octets at `addressAt`, `expires` boottime seconds, at most
   * `fqdnAheadSecondsMax` after the last `expire`. Evicts mappings of the same namespace where a limit asks for it. Allocates nothing.
   */
  learn(
    name: Uint8Array,
    nameLength: number,
    address: Uint8Array,
    addressAt: number,
    expires: number,
    namespaceId: number,
    scope: number,
  ): FqdnStatus {
    assert(nameLength >= 1 && nameLength <= nameBytesMax, 'a name has 1 to 255 octets');
    assert(addressAt >= 0 && addressAt + 16 <= address.length, 'an address has 16 octets');
    const until = Math.min(expires, this.#expiresMax);
    let namespace = this.#namespaces.find(namespaceId);
    const nameHash = this.#names.hash(name, nameLength, namespaceId, scope);
    let record =
      namespace === 0 ? 0 : this.#names.find(name, nameLength, namespace, scope, nameHash);
    if (record !== 0) {
      const entry = this.#findEntry(record, address, addressAt);
      this.#names.ofNamespace.touch(namespace, record);
      if (entry !== 0) return this.#extend(record, entry, until);
    }
    if (namespace === 0) namespace = this.#namespaces.add(namespaceId);
    if (namespace === 0) {
      this.counters.refusedNamespaces++;
      return fqdnRefused;
    }
    const hasRoom = this.#makeRoom(namespace, record, nameLength);
    if (!hasRoom) {
      assert(record === 0, 'a known name has a mapping to evict');
      this.#namespaces.dropEmpty(namespace);
      this.counters.refusedFull++;
      return fqdnRefused;
    }
    if (record === 0) {
      record = this.#names.add(name, nameLength, namespace, scope, nameHash);
      this.#countName(record, 1);
    }
    this.#addEntry(record, address, addressAt, until);
    this.counters.added++;
    return fqdnAdded;
  }

  /** Expiry of a mapping in boottime seconds, 0 if it is not known. */
  lookup(
    name: Uint8Array,
    nameLength: number,
    address: Uint8Array,
    addressAt: number,
    namespaceId: number,
    scope: number,
  ): number {
    const namespace = this.#namespaces.find(namespaceId);
    if (namespace === 0) return 0;
    const hash = this.#names.hash(name, nameLength, namespaceId, scope);
    const record = this.#names.find(name, nameLength, namespace, scope, hash);
    const entry = record === 0 ? 0 : this.#findEntry(record, address, addressAt);
    return this.#entryExpires[entry]!;
  }

  /**
   * Removes mappings that expired at or before `now`, and shortens those that live too long, looking at `budget` places, from where the last
   * call ended. How many were removed. Calls with a sum of budgets of `span` have seen all places.
   * `inUse` is asked once for a mapping that expired, and again at the time that it gave; that costs as much
   * of the budget as `fqdnPlacesPerUse` places.
   */
  expire(now: number, budget: number, inUse?: UsedUntil): number {
    let removed = 0;
    let left = budget;
    this.#expiresMax = now + fqdnAheadSecondsMax;
    for (let places = this.span; places > 0 && left > 0; places--, left--) {
      if (this.#expireFrom > this.#entries.highest) this.#expireFrom = 1;
      const entry = this.#expireFrom++;
      if (this.#entryExpires[entry]! > this.#expiresMax)
        this.#entryExpires[entry] = this.#expiresMax;
      if (this.#entryName[entry] === 0 || this.#entryExpires[entry]! > now) continue;
      if (inUse !== undefined) {
        if (this.#entryKept[entry]! > now) continue;
        left -= fqdnPlacesPerUse - 1;
        if (this.#isInUse(entry, now, inUse)) continue;
      }
      const namespace = this.#names.namespace[this.#entryName[entry]!]!;
      this.#removeEntry(entry, 0);
      this.#namespaces.dropEmpty(namespace);
      removed++;
    }
    this.counters.expired += removed;
    return removed;
  }

  #isInUse(entry: number, now: number, inUse: UsedUntil): boolean {
    const until = inUse(this.#entryAddress, entry * 16);
    this.#entryKept[entry] = until;
    return until > now;
  }

  /** Places that mappings lie in. */
  get span(): number {
    return this.#entries.highest;
  }

  /**
   * The first mapping at or after place `from`, 0 at the end. Begin with 1 and go on with the place
   * after: mappings that come or go meanwhile may be missed, all others are met once.
   */
  nextEntry(from: number): number {
    for (let entry = from; entry <= this.#entries.highest; entry++) {
      if (this.#entryName[entry] !== 0) return entry;
    }
    return 0;
  }

  /** Fills `record` with the mapping at `entry`. */
  read(entry: number, record: FqdnRecord): void {
    const name = this.#entryName[entry]!;
    assert(name !== 0, 'a mapping that is read exists');
    record.nameLength = this.#names.length[name]!;
    this.#names.read(name, record.name);
    for (let i = 0; i < 16; i++) record.address[i] = this.#entryAddress[entry * 16 + i]!;
    record.expires = this.#entryExpires[entry]!;
    record.namespaceId = this.#namespaces.idOf(this.#names.namespace[name]!);
    record.scope = this.#names.scope[name]!;
  }

  /**
   * As `nextEntry`, but one mapping of each name; the others follow by `nextOfName`. This is how a new
   * selector is filled: let queries match it first, then walk, because a name that is learned meanwhile
   * may move and be missed.
   */
  nextName(from: number): number {
    for (let entry = this.nextEntry(from); entry !== 0; entry = this.nextEntry(entry + 1)) {
      if (this.#entriesOfName.oldest(this.#entryName[entry]!) === entry) return entry;
    }
    return 0;
  }

  /** The mapping of the same name after `entry`, 0 after the last. */
  nextOfName(entry: number): number {
    return this.#entriesOfName.newer(entry);
  }

  #extend(record: number, entry: number, expires: number): FqdnStatus {
    this.#entriesOfName.touch(record, entry);
    if (expires <= this.#entryExpires[entry]!) {
      this.counters.unchanged++;
      return fqdnUnchanged;
    }
    this.#entryExpires[entry] = expires;
    this.counters.extended++;
    return fqdnExtended;
  }

  /**
   * Makes room for one mapping of `namespace`, under name `record` or, if that is 0, a new name of
   * `nameLength` octets. `record` itself survives, even without entries. False if there is no room.
   */
  #makeRoom(namespace: number, record: number, nameLength: number): boolean {
    if (record !== 0 && this.#names.entries[record]! >= this.#addressesPerNameMax) {
      this.counters.evictedByName++;
      this.#removeEntry(this.#entriesOfName.oldest(record), record);
    }
    if (this.#namespaces.entries[namespace]! >= this.#entriesPerNamespaceMax) {
      this.counters.evictedByNamespace++;
      this.#evictOldest(namespace, record);
    }
    // A turn takes at least one mapping, and a long name needs a few names' blocks.
    while (!this.#hasRoom(record, nameLength)) {
      const giver = this.#giverFor(namespace);
      if (giver === 0) return false;
      this.#evictOldest(giver, record);
      if (giver === namespace) {
        this.counters.evictedByFull++;
      } else {
        this.counters.evictedByShare++;
        this.#namespaces.dropEmpty(giver);
      }
    }
    return true;
  }

  /** Which namespace gives a mapping, so that `namespace` has room; 0: none. */
  #giverFor(namespace: number): number {
    const { entries, names, blocks } = this.#namespaces;
    const hasEntries = this.#entries.used < this.#entries.capacity;
    const used = !hasEntries ? entries : this.#names.isFull ? names : blocks;
    const largest = this.#namespaces.largest(used);
    // With one more the giver would have no less than who takes it.
    if (used[largest]! > used[namespace]! + 1) return largest;
    return entries[namespace]! > 0 ? namespace : 0;
  }

  #hasRoom(record: number, nameLength: number): boolean {
    if (this.#entries.used === this.#entries.capacity) return false;
    if (record !== 0) return true;
    return this.#names.hasRoom(nameLength);
  }

  #evictOldest(namespace: number, keep: number): void {
    // A name that is being extended was made the newest before: it is met last.
    const record = this.#names.ofNamespace.oldest(namespace);
    this.#removeEntry(this.#entriesOfName.oldest(record), keep);
  }

  #addEntry(record: number, address: Uint8Array, addressAt: number, expires: number): void {
    const entry = this.#entries.take();
    assert(entry !== 0, 'room was made');
    this.#entryName[entry] = record;
    for (let i = 0; i < 16; i++) {
      this.#entryAddress[entry * 16 + i] = address[addressAt + i]!;
    }
    this.#entryExpires[entry] = expires;
    this.#entryKept[entry] = 0;
    this.#entryIndex.insert(this.#hashEntry(record, address, addressAt), entry);
    this.#entriesOfName.append(record, entry);
    this.#names.entries[record] = this.#names.entries[record]! + 1;
    const namespace = this.#names.namespace[record]!;
    this.#namespaces.entries[namespace] = this.#namespaces.entries[namespace]! + 1;
  }

  /** Removes a mapping, and its name when that was the last, but for the name `keep`. */
  #removeEntry(entry: number, keep: number): void {
    const record = this.#entryName[entry]!;
    const namespace = this.#names.namespace[record]!;
    this.#entryIndex.remove(entry);
    this.#entriesOfName.remove(record, entry);
    this.#entryName[entry] = 0;
    this.#entryExpires[entry] = 0;
    this.#entries.give(entry);
    this.#namespaces.entries[namespace] = this.#namespaces.entries[namespace]! - 1;
    this.#names.entries[record] = this.#names.entries[record]! - 1;
    if (this.#names.entries[record] === 0 && record !== keep) {
      this.#countName(record, -1);
      this.#names.remove(record);
    }
  }

  /** `sign`: 1 for a name that came, -1 for one that goes. */
  #countName(record: number, sign: 1 | -1): void {
    const { names, blocks } = this.#namespaces;
    const namespace = this.#names.namespace[record]!;
    names[namespace] = names[namespace]! + sign;
    blocks[namespace] = blocks[namespace]! + sign * blocksOf(this.#names.length[record]!);
  }

  #findEntry(record: number, address: Uint8Array, addressAt: number): number {
    const hash = this.#hashEntry(record, address, addressAt);
    let entry = this.#entryIndex.first(hash);
    for (; entry !== 0; entry = this.#entryIndex.next(hash)) {
      if (this.#entryName[entry] === record && this.#isAddress(entry, address, addressAt)) break;
    }
    return entry;
  }

  #isAddress(entry: number, address: Uint8Array, addressAt: number): boolean {
    for (let i = 15; i >= 0; i--) {
      if (this.#entryAddress[entry * 16 + i] !== address[addressAt + i]) return false;
    }
    return true;
  }

  #hashEntry(record: number, address: Uint8Array, addressAt: number): number {
    return hashBytes(address, addressAt, 16, this.#key) ^ Math.imul(record, 0x9e3779b1);
  }
}
