// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The kernel's `fqdn` map and the program that writes it, with the semantics of bpf/include/tandem/change.h and
 * order.h: add or extend, never shorten; what makes room is said by the model that the kernel is compared with in
 * bpf/tests/order.fuzz.test.ts; removal counted in `group`. Requests lie in the same memory as the product's writer
 * lays them.
 */

import type { BatchCursor } from '@tandem/bpf-loader-node/map';
import {
  TD_FQDN_PAGES_MAX,
  TD_FQDN_SELECTORS_MAX,
  TD_WRITERS_MAX,
  tdFqdn,
  tdFqdnKey,
  tdFqdnSlot,
  tdLearnArgs,
  tdLearnBatch,
  tdLearnOp,
  tdLearnRequest,
  tdLearnResult,
} from '@tandem/datapath/abi.gen';
import type { NodeGroup } from '@tandem/datapath/group';
import { OrderModel } from '@tandem/testing/order-model';

export interface FqdnSlot {
  readonly selector: number;
  expires: number;
  /** Namespace that owns it; 0: an offer. */
  namespaceId: number;
}

/** IPv4 alone: the fourth word of an address tells them apart. */
export interface FqdnEntry {
  readonly words: Uint32Array;
  readonly slots: FqdnSlot[];
}

export interface FqdnLimits {
  readonly places: number;
  readonly perNamespace: number;
  /** Guaranteed to each of `namespaces`. */
  readonly share: number;
  readonly namespaces: Iterable<number>;
}

/** Use and share of a namespace when a slot was removed. */
export type UsedOf = (namespaceId: number) => { readonly used: number; readonly share: number };

/** Hears of every change before it is made. */
export interface FqdnWatcher {
  onAdd(address: number, selector: number, expires: number, namespaceId: number): void;
  /** `op` 0: it makes room. `isLast`: no other namespace has the pair. */
  onRemove(address: number, slot: FqdnSlot, op: number, isLast: boolean, usedOf: UsedOf): void;
}

/** The memory of the map `learn_requests`, allocated once: each world begins with zeros. */
const requests = new SharedArrayBuffer(TD_WRITERS_MAX * tdLearnBatch.size);
const requestWords = new Uint32Array(requests);
const requestHalves = new Int16Array(requests);
const selectorBit = 0x8000_0000;
const slotsMax = TD_FQDN_PAGES_MAX * TD_FQDN_SELECTORS_MAX;
const word = (bytes: number): number => bytes / 4;

export class FqdnMap {
  readonly entries: Map<number, FqdnEntry> = new Map();
  readonly #words: Uint32Array = requestWords.fill(0);
  readonly #group: NodeGroup;
  readonly #watcher: FqdnWatcher;
  readonly #neverLearn: (address: number) => boolean;
  readonly #order: OrderModel;
  /** Requests refused, and slots that made room. */
  refused = 0;
  evicted = 0;

  constructor(options: {
    readonly group: NodeGroup;
    readonly limits: FqdnLimits;
    readonly watcher: FqdnWatcher;
    readonly neverLearn: (address: number) => boolean;
  }) {
    this.#group = options.group;
    this.#watcher = options.watcher;
    this.#neverLearn = options.neverLearn;
    const { places, perNamespace, share, namespaces } = options.limits;
    this.#order = new OrderModel(places, perNamespace, (namespaceId, { address, selector }) => {
      this.evicted += 1;
      this.#freeSlot(Number(address), selector, namespaceId, 0);
    });
    for (const namespaceId of namespaces) this.#order.setShare(namespaceId, share, perNamespace);
  }

  /** `learn_requests`. */
  mmap(): ArrayBuffer {
    return requests as unknown as ArrayBuffer;
  }

  /** BPF_PROG_TEST_RUN of `learn`: whole batches, nobody sees a half of a request. */
  run(args: Uint8Array): void {
    const view = new DataView(args.buffer, args.byteOffset);
    const writer = view.getUint32(tdLearnArgs.writer, true);
    const count = view.getUint32(tdLearnArgs.count, true);
    const evictedBefore = this.evicted;
    let failed = 0;
    let hasRemoved = false;
    for (let i = 0; i < count; i++) {
      const byte = writer * tdLearnBatch.size + i * tdLearnRequest.size;
      const op = requestHalves[(byte + tdLearnRequest.op) / 2]!;
      const result = this.#one(word(byte), op);
      requestHalves[(byte + tdLearnRequest.result) / 2] = result;
      if (result < 0) failed += 1;
      if (op === tdLearnOp.REMOVE && result === tdLearnResult.OK) hasRemoved = true;
    }
    this.refused += failed;
    const evicted = this.evicted - evictedBefore;
    view.setUint32(tdLearnArgs.failed, failed, true);
    view.setUint32(tdLearnArgs.evicted, evicted, true);
    if (hasRemoved || evicted > 0) this.#group.countRemoval();
  }

  /** Pages of the map as the batch system call gives them. */
  lookupBatch(cursor: BatchCursor, keys: Uint8Array, values: Uint8Array, count: number): number {
    if (cursor.isDone) return 0;
    const at = new DataView(cursor.token.buffer, cursor.token.byteOffset);
    const skip = cursor.isFirst ? 0 : at.getUint32(0, true);
    cursor.isFirst = false;
    const pages = [...this.entries.values()].flatMap((entry) =>
      Array.from(
        { length: Math.ceil(entry.slots.length / TD_FQDN_SELECTORS_MAX) },
        (_, page) => [entry, page] as const,
      ),
    );
    const taken = pages.slice(skip, skip + count);
    const keyWords = new Uint32Array(keys.buffer, keys.byteOffset);
    const valueWords = new Uint32Array(values.buffer, values.byteOffset);
    taken.forEach(([{ words, slots }, page], i) => {
      const key = word(i * tdFqdnKey.size);
      keyWords.set(words, key);
      keyWords[key + 4] = page;
      const value = word(i * tdFqdn.size);
      valueWords.fill(0, value, value + word(tdFqdn.size));
      slots
        .slice(page * TD_FQDN_SELECTORS_MAX, (page + 1) * TD_FQDN_SELECTORS_MAX)
        .forEach((slot, s) => {
          const to = value + word(tdFqdn.slot + s * tdFqdnSlot.size);
          valueWords[to] = slot.selector;
          valueWords[to + word(tdFqdnSlot.expires_s)] = slot.expires;
          valueWords[to + word(tdFqdnSlot.namespace_id)] = slot.namespaceId;
        });
    });
    at.setUint32(0, skip + taken.length, true);
    cursor.isDone = skip + taken.length >= pages.length;
    return taken.length;
  }

  /** Latest expiry in any namespace; 0: no namespace has it. */
  expiresOf(address: number, selector: number): number {
    const slots = this.entries.get(address)?.slots ?? [];
    return slots.reduce(
      (latest, slot) => (slot.selector === selector ? Math.max(latest, slot.expires) : latest),
      0,
    );
  }

  #one(at: number, op: number): number {
    const words = this.#words;
    const address = words[at + 3]!;
    const selector = words[at + word(tdLearnRequest.selector)]!;
    const expires = words[at + word(tdLearnRequest.expires_s)]!;
    const namespaceId = words[at + word(tdLearnRequest.namespace_id)]!;
    if (op === tdLearnOp.ADD) {
      if ((selector & selectorBit) === 0) return tdLearnResult.REFUSED_REQUEST;
      if (this.#neverLearn(address)) return tdLearnResult.REFUSED_ADDRESS;
      const isOffered = words[at + word(tdLearnRequest.offered)] === 1;
      return this.#add(words.subarray(at, at + 4), selector, expires, isOffered ? 0 : namespaceId);
    }
    if (op === tdLearnOp.REMOVE) {
      const slots = this.entries.get(address)?.slots;
      const lives = slots?.find((slot) => slot.selector === selector)?.expires ?? 0;
      if (expires !== 0 && ((lives - expires) | 0) > 0) {
        words[at + word(tdLearnRequest.expires_s)] = lives;
        return tdLearnResult.KEPT;
      }
      return this.#free(address, (slot) => slot.selector === selector, op);
    }
    return this.#free(address, (slot) => ((slot.expires - expires) | 0) < 0, op);
  }

  /** `owner` 0: an offer, which extends whatever has the pair. */
  #add(words: Uint32Array, selector: number, expires: number, owner: number): number {
    const address = words[3]!;
    const pair = { address: String(address), selector };
    const slots = this.entries.get(address)?.slots ?? [];
    const find = (namespaceId: number): FqdnSlot | undefined =>
      slots.find((slot) => slot.selector === selector && slot.namespaceId === namespaceId);
    const found = owner === 0 ? slots.find((slot) => slot.selector === selector) : find(owner);
    if (found !== undefined) {
      if (owner !== 0) this.#order.add(owner, pair);
      if (((expires - found.expires) | 0) <= 0) return tdLearnResult.UNCHANGED;
      this.#watcher.onAdd(address, selector, expires, owner);
      found.expires = expires;
      return tdLearnResult.OK;
    }
    if (slots.length >= slotsMax) return tdLearnResult.REFUSED_SELECTORS;
    const offer = find(0);
    if ((owner === 0 ? this.#order.offer(pair) : this.#order.add(owner, pair)) === 'refused')
      return tdLearnResult.REFUSED_NAMESPACE;
    this.#watcher.onAdd(address, selector, expires, owner);
    // Unless it made room itself.
    if (offer !== undefined && slots.includes(offer)) {
      offer.namespaceId = owner;
      if (((expires - offer.expires) | 0) > 0) offer.expires = expires;
      return tdLearnResult.OK;
    }
    const target = this.entries.get(address) ?? { words: words.slice(), slots: [] };
    this.entries.set(address, target);
    target.slots.push({ selector, expires, namespaceId: owner });
    return tdLearnResult.OK;
  }

  #free(address: number, isMeant: (slot: FqdnSlot) => boolean, op: number): number {
    const slots = [...(this.entries.get(address)?.slots ?? [])].filter(isMeant);
    for (const { selector, namespaceId } of slots) {
      this.#freeSlot(address, selector, namespaceId, op);
      this.#order.removeOf(namespaceId, { address: String(address), selector });
    }
    return slots.length > 0 ? tdLearnResult.OK : tdLearnResult.ABSENT;
  }

  #freeSlot(address: number, selector: number, namespaceId: number, op: number): void {
    const slots = this.entries.get(address)?.slots ?? [];
    const at = slots.findIndex(
      (slot) => slot.selector === selector && slot.namespaceId === namespaceId,
    );
    if (at === -1) return;
    const isLast = slots.filter((slot) => slot.selector === selector).length === 1;
    const order = this.#order;
    this.#watcher.onRemove(address, slots[at] as FqdnSlot, op, isLast, (id) => ({
      used: order.usedOf(id),
      share: order.shareOf(id),
    }));
    slots.splice(at, 1);
    if (slots.length === 0) this.entries.delete(address);
  }
}
