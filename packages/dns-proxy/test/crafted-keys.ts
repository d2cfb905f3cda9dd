// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Keys of a hash table chosen by an attacker who knows the code and not the seed. For a chain of xor,
 * multiply and `h ^= h >>> shift`: differences in the top bits of one word pass the multiplication, and
 * the next word takes them back.
 */

/** 4 bits in each of four places. */
const craftedKeys = 65_536;

/**
 * Keys of `words` words that differ in the four words from `at` on. `shifts`: those after the first and
 * the second multiplication, in turns.
 */
export function craftedWords(
  count: number,
  words: number,
  at: readonly [number, number, number, number],
  shifts: readonly [number, number],
): Uint32Array[] {
  if (count > craftedKeys) throw new TypeError(`at most ${craftedKeys} crafted keys`);
  const top = (i: number, digit: number): number => ((i >>> (4 * digit)) & 15) << 28;
  const taken = (x: number, shift: number): number => x ^ (x >>> shift);
  return Array.from({ length: count }, (_, i) => {
    const key = new Uint32Array(words).fill(0x20010db8);
    key[at[0]] = 0x1234_5678 ^ top(i, 0);
    key[at[1]] = 0x1234_5678 ^ taken(top(i, 1), shifts[0]);
    key[at[2]] = 0x1234_5678 ^ top(i, 2);
    key[at[3]] = 0x1234_5678 ^ taken(top(i, 3), shifts[1]);
    return key;
  });
}

/** Counted addresses: the last of four words goes up. */
export function countedWords(count: number, words: number, at: number): Uint32Array[] {
  return Array.from({ length: count }, (_, i) => {
    const key = new Uint32Array(words).fill(0x20010db8);
    key[at] = i;
    return key;
  });
}

/** The same number of keys by a generator with a seed. */
export function randomWords(count: number, words: number): Uint32Array[] {
  let state = 20251121;
  const next = (): number => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return (t ^ (t >>> 14)) >>> 0;
  };
  return Array.from({ length: count }, () => Uint32Array.from({ length: words }, next));
}

/**
 * Words read from the keys by `lookup`, on average: some by the hash, and at least one for each entry
 * that is compared.
 */
export function readsPerLookup(
  keys: readonly Uint32Array[],
  lookup: (words: Uint32Array) => void,
): number {
  let reads = 0;
  for (const key of keys) {
    lookup(
      new Proxy(key, {
        get(target, property) {
          reads += 1;
          return Reflect.get(target, property, target) as unknown;
        },
      }),
    );
  }
  return reads / keys.length;
}
