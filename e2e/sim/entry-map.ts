// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A hash map or trie of the agent, as `reconcile` and the judge see it: bytes to bytes. */

import type { BatchCursor } from '@tandem/bpf-loader-node/map';

export class EntryMap {
  readonly name: string;
  readonly maxEntries = 1024;
  readonly keySize: number;
  readonly valueBytes: number;
  readonly #entries = new Map<string, readonly [key: Uint8Array, value: Uint8Array]>();
  /** Called before each change: the writer may be stopped or killed between two. */
  readonly #seam: () => void;
  readonly #onChange: (key: Uint8Array, value: Uint8Array | null) => void;

  constructor(
    name: string,
    sizes: { readonly key: number; readonly value: number },
    seam: () => void = () => undefined,
    onChange: (key: Uint8Array, value: Uint8Array | null) => void = () => undefined,
  ) {
    this.name = name;
    this.keySize = sizes.key;
    this.valueBytes = sizes.value;
    this.#seam = seam;
    this.#onChange = onChange;
  }

  /** Gives another map the same content. */
  fill(other: EntryMap): void {
    for (const [text, entry] of this.#entries) {
      other.#entries.set(text, entry);
      other.#onChange(...entry);
    }
  }

  get size(): number {
    return this.#entries.size;
  }

  entries(): readonly (readonly [key: Uint8Array, value: Uint8Array])[] {
    return [...this.#entries.values()];
  }

  lookupInto(key: Uint8Array, value: Uint8Array): boolean {
    const found = this.#entries.get(textOf(key));
    if (found === undefined) return false;
    value.set(found[1]);
    return true;
  }

  lookupBatch(cursor: BatchCursor, keys: Uint8Array, values: Uint8Array, count: number): number {
    if (cursor.isDone) return 0;
    const at = new DataView(cursor.token.buffer, cursor.token.byteOffset);
    const skip = cursor.isFirst ? 0 : at.getUint32(0, true);
    cursor.isFirst = false;
    const taken = this.entries().slice(skip, skip + count);
    for (const [i, [key, value]] of taken.entries()) {
      keys.set(key, i * this.keySize);
      values.set(value, i * this.valueBytes);
    }
    at.setUint32(0, skip + taken.length, true);
    cursor.isDone = skip + taken.length >= this.size;
    return taken.length;
  }

  updateBatch(keys: Uint8Array, values: Uint8Array, count: number): void {
    for (let i = 0; i < count; i++) {
      this.#seam();
      const key = keys.slice(i * this.keySize, (i + 1) * this.keySize);
      const value = values.slice(i * this.valueBytes, (i + 1) * this.valueBytes);
      this.#entries.set(textOf(key), [key, value]);
      this.#onChange(key, value);
    }
    this.#seam();
  }

  delete(key: Uint8Array): boolean {
    this.#seam();
    const wasThere = this.#entries.delete(textOf(key));
    if (wasThere) this.#onChange(key, null);
    return wasThere;
  }
}

function textOf(bytes: Uint8Array): string {
  let text = '';
  for (let i = 0; i < bytes.length; i++) text += String.fromCharCode(bytes[i]!);
  return text;
}
