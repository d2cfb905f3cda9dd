// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The kernel's `fqdn` map and the program that writes it, with the semantics of bpf/src/learn.h and
 * quota.h: add or extend, never shorten; quotas of namespace and selector; removal counted in `group`.
 * Requests lie in the same memory as the product's writer lays them.
 */

import type { BatchCursor } from '@tandem/bpf-loader-node/map';
import {
  TD_FQDN_PAGES_MAX,
  TD_FQDN_SELECTORS_MAX,
  TD_WRITERS_MAX,
  tdFqdn,
  tdFqdnKey,
  tdFqdnSlot,
  tdGroup,
  tdLearnArgs,
  tdLearnBatch,
  tdLearnOp,
  tdLearnRequest,
  tdLearnResult,
} from '@tandem/datapath/abi.gen';

export interface FqdnSlot {
  readonly selector: number;
  expires: number;
  readonly namespaceId: number;
}

/** IPv4 alone: the fourth word of an address tells them apart. */
export interface FqdnEntry {
  readonly words: Uint32Array;
  readonly slots: FqdnSlot[];
}

export interface FqdnLimits {
  readonly entriesMax: number;
  readonly perNamespace: number;
  readonly perSelector: number;
}

/** Hears of every change before it is made. */
export interface FqdnWatcher {
  onAdd(address: number, selector: number, expires: number, namespaceId: number): void;
  onRemove(address: number, slot: FqdnSlot, op: number): void;
}

const selectorBit = 0x8000_0000;
const slotsMax = TD_FQDN_PAGES_MAX * TD_FQDN_SELECTORS_MAX;
const word = (bytes: number): number => bytes / 4;

export class FqdnMap {
  readonly entries: Map<number, FqdnEntry> = new Map();
  readonly #requests = new SharedArrayBuffer(TD_WRITERS_MAX * tdLearnBatch.size);
  readonly #words = new Uint32Array(this.#requests);
  readonly #halves = new Int16Array(this.#requests);
  readonly #group: Uint32Array;
  readonly #limits: FqdnLimits;
  readonly #watcher: FqdnWatcher;
  readonly #neverLearn: (address: number) => boolean;
  readonly #used = new Map<number, number>();
  /** Requests refused, by result. */
  refused = 0;

  constructor(options: {
    readonly group: Uint32Array;
    readonly limits: FqdnLimits;
    readonly watcher: FqdnWatcher;
    readonly neverLearn: (address: number) => boolean;
  }) {
    this.#group = options.group;
    this.#limits = options.limits;
    this.#watcher = options.watcher;
    this.#neverLearn = options.neverLearn;
  }

  /** `learn_requests`. */
  mmap(): ArrayBuffer {
    return this.#requests as unknown as ArrayBuffer;
  }

  /** BPF_PROG_TEST_RUN of `learn`: whole batches, nobody sees a half of a request. */
  run(args: Uint8Array): void {
    const view = new DataView(args.buffer, args.byteOffset);
    const writer = view.getUint32(tdLearnArgs.writer, true);
    const count = view.getUint32(tdLearnArgs.count, true);
    let failed = 0;
    let hasRemoved = false;
    for (let i = 0; i < count; i++) {
      const byte = writer * tdLearnBatch.size + i * tdLearnRequest.size;
      const op = this.#halves[(byte + tdLearnRequest.op) / 2] as number;
      const result = this.#one(word(byte), op);
      this.#halves[(byte + tdLearnRequest.result) / 2] = result;
      if (result < 0) failed += 1;
      if (op === tdLearnOp.REMOVE && result === tdLearnResult.OK) hasRemoved = true;
    }
    this.refused += failed;
    view.setUint32(tdLearnArgs.failed, failed, true);
    if (hasRemoved) Atomics.add(this.#group, word(tdGroup.removals), 1);
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

  expiresOf(address: number, selector: number): number {
    return (
      this.entries.get(address)?.slots.find((slot) => slot.selector === selector)?.expires ?? 0
    );
  }

  usedOf(key: number): number {
    return this.#used.get(key) ?? 0;
  }

  #one(at: number, op: number): number {
    const words = this.#words;
    const address = words[at + 3] as number;
    const selector = words[at + word(tdLearnRequest.selector)] as number;
    const expires = words[at + word(tdLearnRequest.expires_s)] as number;
    const namespaceId = words[at + word(tdLearnRequest.namespace_id)] as number;
    if (op === tdLearnOp.ADD) {
      if ((selector & selectorBit) === 0) return tdLearnResult.REFUSED_REQUEST;
      if (this.#neverLearn(address)) return tdLearnResult.REFUSED_ADDRESS;
      return this.#add(words.subarray(at, at + 4), selector, expires, namespaceId);
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

  #add(words: Uint32Array, selector: number, expires: number, namespaceId: number): number {
    const address = words[3] as number;
    const entry = this.entries.get(address);
    const slot = entry?.slots.find((one) => one.selector === selector);
    if (slot !== undefined) {
      if (((expires - slot.expires) | 0) <= 0) return tdLearnResult.UNCHANGED;
      this.#watcher.onAdd(address, selector, expires, namespaceId);
      slot.expires = expires;
      return tdLearnResult.OK;
    }
    const refusal = this.#quotaRefusal(namespaceId, selector);
    if (refusal !== 0) return refusal;
    if (entry === undefined && this.entries.size >= this.#limits.entriesMax)
      return tdLearnResult.REFUSED_FULL;
    if (entry !== undefined && entry.slots.length >= slotsMax)
      return tdLearnResult.REFUSED_SELECTORS;
    this.#watcher.onAdd(address, selector, expires, namespaceId);
    const target = entry ?? { words: words.slice(), slots: [] };
    if (entry === undefined) this.entries.set(address, target);
    target.slots.push({ selector, expires, namespaceId });
    this.#count(namespaceId, 1);
    this.#count(selector, 1);
    return tdLearnResult.OK;
  }

  #free(address: number, isMeant: (slot: FqdnSlot) => boolean, op: number): number {
    const entry = this.entries.get(address);
    if (entry === undefined) return tdLearnResult.ABSENT;
    let freed = 0;
    for (let i = entry.slots.length - 1; i >= 0; i--) {
      const slot = entry.slots[i] as FqdnSlot;
      if (!isMeant(slot)) continue;
      this.#watcher.onRemove(address, slot, op);
      entry.slots.splice(i, 1);
      this.#count(slot.namespaceId, -1);
      this.#count(slot.selector, -1);
      freed += 1;
    }
    if (entry.slots.length === 0) this.entries.delete(address);
    return freed > 0 ? tdLearnResult.OK : tdLearnResult.ABSENT;
  }

  #quotaRefusal(namespaceId: number, selector: number): number {
    const { perNamespace, perSelector } = this.#limits;
    const used = this.usedOf(namespaceId);
    if (used >= perNamespace) return tdLearnResult.REFUSED_NAMESPACE;
    const isModest = used + 1 <= perNamespace >> 3;
    if (this.usedOf(selector) >= perSelector && !isModest) return tdLearnResult.REFUSED_SELECTOR;
    return 0;
  }

  #count(key: number, change: number): void {
    this.#used.set(key, (this.#used.get(key) ?? 0) + change);
  }
}
