// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Octets of names in blocks of 32, chained: no fragmentation, and a name of the usual 20 to 30 octets
 * takes one block instead of 255 octets. A name is known by its first block and its length.
 */

import { nameBytesMax } from '../limits.ts';
import { IdPool } from './id-pool.ts';

export const nameBlockBytes = 32;
/** Blocks of the longest name. */
export const blocksPerNameMax: number = blocksOf(nameBytesMax);

/** Blocks of a name of `length` octets. */
export function blocksOf(length: number): number {
  return Math.ceil(length / nameBlockBytes);
}

export class NameStore {
  readonly #octets: Uint8Array;
  readonly #next: Int32Array;
  readonly #pool: IdPool;

  constructor(blocksMax: number) {
    this.#octets = new Uint8Array((blocksMax + 1) * nameBlockBytes);
    this.#next = new Int32Array(blocksMax + 1);
    this.#pool = new IdPool(blocksMax);
  }

  /** Blocks in use. */
  get used(): number {
    return this.#pool.used;
  }

  /** Whether there is room for a name of `length` octets. */
  hasRoom(length: number): boolean {
    return (this.#pool.capacity - this.#pool.used) * nameBlockBytes >= length;
  }

  /** Stores the first `length` octets of `name`; there is room. The first block. */
  add(name: Uint8Array, length: number): number {
    // From the end, so that each block knows its successor.
    let next = 0;
    for (let from = (length - 1) & ~(nameBlockBytes - 1); from >= 0; from -= nameBlockBytes) {
      const block = this.#pool.take();
      const at = block * nameBlockBytes;
      const size = Math.min(nameBlockBytes, length - from);
      for (let i = 0; i < size; i++) this.#octets[at + i] = name[from + i]!;
      this.#next[block] = next;
      next = block;
    }
    return next;
  }

  /** Gives the blocks of a name back. */
  remove(first: number): void {
    for (let block = first; block !== 0; ) {
      const next = this.#next[block]!;
      this.#pool.give(block);
      block = next;
    }
  }

  /** Whether the stored name of `length` octets is `name`. */
  equals(first: number, name: Uint8Array, length: number): boolean {
    let block = first;
    let at = block * nameBlockBytes;
    for (let i = 0; i < length; i++, at++) {
      if (i !== 0 && i % nameBlockBytes === 0) {
        block = this.#next[block]!;
        at = block * nameBlockBytes;
      }
      if (this.#octets[at] !== name[i]) return false;
    }
    return true;
  }

  /** Copies the stored name of `length` octets to the start of `out`. */
  read(first: number, length: number, out: Uint8Array): void {
    let block = first;
    let at = block * nameBlockBytes;
    for (let i = 0; i < length; i++, at++) {
      if (i !== 0 && i % nameBlockBytes === 0) {
        block = this.#next[block]!;
        at = block * nameBlockBytes;
      }
      out[i] = this.#octets[at]!;
    }
  }
}
