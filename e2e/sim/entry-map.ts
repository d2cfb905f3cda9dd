// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A hash map or trie of the agent, as `reconcile` and the judge see it: bytes to bytes. */

export class EntryMap {
  readonly keySize: number;
  readonly valueSize: number;
  readonly #values = new Map<string, Uint8Array>();
  /** Called before each change: the writer may be stopped or killed between two. */
  readonly #seam: () => void;
  readonly #onChange: (key: Uint8Array, value: Uint8Array | null) => void;

  constructor(
    sizes: { readonly key: number; readonly value: number },
    seam: () => void = () => undefined,
    onChange: (key: Uint8Array, value: Uint8Array | null) => void = () => undefined,
  ) {
    this.keySize = sizes.key;
    this.valueSize = sizes.value;
    this.#seam = seam;
    this.#onChange = onChange;
  }

  /** Gives another map the same content. */
  fill(other: EntryMap): void {
    for (const [key, value] of this.#values) {
      other.#values.set(key, value);
      other.#onChange(Buffer.from(key, 'latin1'), value);
    }
  }

  get size(): number {
    return this.#values.size;
  }

  *entries(): Generator<[key: Uint8Array, value: Uint8Array]> {
    for (const [key, value] of [...this.#values]) yield [Buffer.from(key, 'latin1'), value];
  }

  lookupInto(key: Uint8Array, value: Uint8Array): boolean {
    const found = this.#values.get(textOf(key));
    if (found === undefined) return false;
    value.set(found);
    return true;
  }

  updateBatch(keys: Uint8Array, values: Uint8Array, count: number): void {
    for (let i = 0; i < count; i++) {
      this.#seam();
      const key = keys.subarray(i * this.keySize, (i + 1) * this.keySize);
      const value = values.slice(i * this.valueSize, (i + 1) * this.valueSize);
      this.#values.set(textOf(key), value);
      this.#onChange(key, value);
    }
  }

  delete(key: Uint8Array): boolean {
    this.#seam();
    const wasThere = this.#values.delete(textOf(key));
    if (wasThere) this.#onChange(key, null);
    return wasThere;
  }
}

function textOf(bytes: Uint8Array): string {
  let text = '';
  for (let i = 0; i < bytes.length; i++) text += String.fromCharCode(bytes[i] as number);
  return text;
}
