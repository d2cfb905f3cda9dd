// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Empties the kernel's `fqdn` map of what expired and is of no use to any connection: a walk in bounded
 * steps finds candidates, `learn` decides under the lock of each address. Both processes may do it at
 * once; the agent does, and the proxy when the agent is away. Slots that the version before wrote are in no order
 * yet: the walk that finds them has them put in it.
 */

import { BatchCursor, type BpfMap } from '@tandem/bpf-loader-node/map';
import {
  TD_FQDN_SELECTORS_MAX,
  TD_PAIRS_MAX,
  TD_SLOT_OWNED,
  tdFqdn,
  tdFqdnKey,
  tdFqdnSlot,
  tdLearnOp,
} from '@tandem/datapath/abi.gen';
import { type KernelWriter, learnBatchMax } from '../answer/kernel-writer.ts';
import { expiryStepEntries } from './limits.ts';

export interface KernelExpiryOptions {
  readonly fqdn: Pick<BpfMap, 'lookupBatch'>;
  /** Writer of this thread. */
  readonly writer: KernelWriter;
  /** How long an expired address is kept for connections that use it. */
  readonly idleSeconds: number;
  readonly stepEntries?: number;
}

export class KernelExpiry {
  /** Since construction: entries looked at, addresses and slots given to `learn`, whole walks. */
  looked = 0;
  submitted = 0;
  adopted = 0;
  walks = 0;
  readonly #o: KernelExpiryOptions;
  readonly #entries: number;
  readonly #keys: Uint8Array;
  readonly #keyWords: Uint32Array;
  readonly #values: Uint8Array;
  readonly #valueWords: Uint32Array;
  #cursor: BatchCursor | null = null;

  constructor(options: KernelExpiryOptions) {
    this.#o = options;
    this.#entries = options.stepEntries ?? expiryStepEntries;
    this.#keys = new Uint8Array(this.#entries * tdFqdnKey.size);
    this.#keyWords = new Uint32Array(this.#keys.buffer);
    this.#values = new Uint8Array(this.#entries * tdFqdn.size);
    this.#valueWords = new Uint32Array(this.#values.buffer);
  }

  /** One step; `nowSeconds`: boottime. True: the walk is at its end, the next step begins another. */
  step(nowSeconds: number): boolean {
    const { fqdn, writer, idleSeconds } = this.#o;
    this.#cursor ??= new BatchCursor(tdFqdnKey.size);
    const cursor = this.#cursor;
    const count = fqdn.lookupBatch(cursor, this.#keys, this.#values, this.#entries);
    this.looked += count;
    const before = Math.max(0, Math.floor(nowSeconds - idleSeconds));
    for (let i = 0; i < count; i++) {
      this.#adopt(i);
      if (!this.#isIdle(i, before)) continue;
      if (writer.count === learnBatchMax) this.#flush();
      const at = (i * tdFqdnKey.size) / 4;
      writer.add(tdLearnOp.EXPIRE, this.#keyWords, at, 0, before, 0, false);
      this.submitted += 1;
    }
    this.#flush();
    if (!cursor.isDone) return false;
    this.#cursor = null;
    this.walks += 1;
    return true;
  }

  /** Slots of page `i` with a namespace instead of a place in the order become that namespace's. */
  #adopt(i: number): void {
    const words = this.#valueWords;
    const { writer } = this.#o;
    const key = (i * tdFqdnKey.size) / 4;
    const at = (i * tdFqdn.size) / 4;
    for (let s = 0; s < TD_FQDN_SELECTORS_MAX; s++) {
      const slot = at + (tdFqdn.slot + s * tdFqdnSlot.size) / 4;
      const selector = words[slot + tdFqdnSlot.selector / 4]!;
      const namespaceId = words[slot + tdFqdnSlot.namespace_id / 4]!;
      if (selector === 0 || namespaceId >= TD_SLOT_OWNED || namespaceId < TD_PAIRS_MAX) continue;
      if (writer.count === learnBatchMax) this.#flush();
      const expires = words[slot + tdFqdnSlot.expires_s / 4]!;
      const isAaaa = !isIpv4Words(this.#keyWords, key);
      writer.add(tdLearnOp.ADD, this.#keyWords, key, selector, expires, namespaceId, isAaaa);
      this.adopted += 1;
    }
  }

  /** Some selector of page `i` expired before `before` and no packet used the page since. */
  #isIdle(i: number, before: number): boolean {
    const words = this.#valueWords;
    const at = (i * tdFqdn.size) / 4;
    const low = words[at + tdFqdn.last_used_ns / 4]!;
    const high = words[at + tdFqdn.last_used_ns / 4 + 1]!;
    if ((high * 4_294_967_296 + low) / 1e9 >= before) return false;
    for (let s = 0; s < TD_FQDN_SELECTORS_MAX; s++) {
      const slot = at + (tdFqdn.slot + s * tdFqdnSlot.size) / 4;
      if (words[slot + tdFqdnSlot.selector / 4] === 0) continue;
      // Signed, as all time arithmetic: seconds since boot wrap one day.
      if (((words[slot + tdFqdnSlot.expires_s / 4]! - before) | 0) < 0) return true;
    }
    return false;
  }

  #flush(): void {
    const { writer } = this.#o;
    if (writer.count > 0) writer.run();
    writer.count = 0;
  }
}

/** IPv4 as ::ffff:a.b.c.d, words as they lie in memory. */
function isIpv4Words(words: Uint32Array, at: number): boolean {
  return words[at] === 0 && words[at + 1] === 0 && words[at + 2] === 0xffff0000;
}
