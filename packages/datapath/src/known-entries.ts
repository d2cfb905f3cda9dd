// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Known content of a kernel map: keys and values of fixed sizes. Values lie in one array, because a full `policy` has a
 * quarter of a million of them. Each entry bears the number of the comparison that last saw it.
 */

export class KnownEntries {
  readonly #valueSize: number;
  /** Key, as latin1, to the place of its value. */
  readonly #places = new Map<string, number>();
  #values: Uint8Array;
  #seen: Uint8Array;
  /** Places that were given back. */
  readonly #free: number[] = [];
  #used = 0;

  constructor(valueSize: number) {
    this.#valueSize = valueSize;
    this.#values = new Uint8Array(256 * valueSize);
    this.#seen = new Uint8Array(256);
  }

  get size(): number {
    return this.#places.size;
  }

  has(key: string): boolean {
    return this.#places.has(key);
  }

  /** Whether the key is there with this very value. */
  holds(key: string, value: Uint8Array): boolean {
    const place = this.#places.get(key);
    if (place === undefined) return false;
    const at = place * this.#valueSize;
    for (let i = 0; i < this.#valueSize; i++) {
      if (this.#values[at + i] !== value[i]) return false;
    }
    return true;
  }

  set(key: string, value: Uint8Array, pass: number): void {
    let place = this.#places.get(key);
    if (place === undefined) {
      place = this.#free.pop() ?? this.#used++;
      if (place >= this.#seen.length) this.#grow();
      this.#places.set(key, place);
    }
    this.#values.set(value, place * this.#valueSize);
    this.#seen[place] = pass;
  }

  /** True when the pass had not seen it before. */
  see(key: string, pass: number): boolean {
    const place = this.#places.get(key);
    if (place === undefined || this.#seen[place] === pass) return false;
    this.#seen[place] = pass;
    return true;
  }

  delete(key: string): boolean {
    const place = this.#places.get(key);
    if (place === undefined) return false;
    this.#places.delete(key);
    this.#free.push(place);
    return true;
  }

  keys(): Iterable<string> {
    return this.#places.keys();
  }

  /** Keys that the pass has not seen. */
  unseen(pass: number): string[] {
    const found: string[] = [];
    for (const [key, place] of this.#places) if (this.#seen[place] !== pass) found.push(key);
    return found;
  }

  *entries(): Generator<[key: Uint8Array, value: Uint8Array], void, undefined> {
    for (const [key, place] of this.#places) {
      const at = place * this.#valueSize;
      yield [keyBytes(key), this.#values.slice(at, at + this.#valueSize)];
    }
  }

  #grow(): void {
    const values = new Uint8Array(this.#values.length * 2);
    values.set(this.#values);
    this.#values = values;
    const seen = new Uint8Array(this.#seen.length * 2);
    seen.set(this.#seen);
    this.#seen = seen;
  }
}

export const keyText = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');

export const keyBytes = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, 'latin1'));
