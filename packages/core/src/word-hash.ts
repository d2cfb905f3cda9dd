// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A keyed hash of a fixed number of 32-bit words, for tables whose keys pods choose: multilinear over
 * digits of 16 bits (Dietzfelbinger, "Universal hashing and k-wise independent random variables via
 * integer arithmetic without primes", 1996), each digit times a random number of its own. Two keys, however
 * chosen, have sums whose difference is random while the numbers are unknown, so they meet with a
 * probability of 2^-17 at most. (A chain of xor, multiply and shift with one seed is no such hash: whole
 * sets of keys collide in it under every seed.) Half as dear as HalfSipHash (name-hash.ts).
 *
 *     sum = numbers[0];  sum += wordTerm(numbers, 1 + 2 * i, word i) for each;  place = spread(sum) & mask
 */

import { hashBytes } from './dns/name-hash.ts';

/** The random numbers for `words` words, drawn from `seed`: one, and two for each word. */
export function wordHashNumbers(seed: number, words: number): Int32Array {
  const key = { low: seed, high: ~seed };
  return Int32Array.from({ length: 1 + 2 * words }, (_, i) =>
    hashBytes(Uint8Array.of(i >>> 8, i), 0, 2, key),
  );
}

/** `sum` and what `word` adds to it; `at`: the first of the word's two numbers. */
export function wordTerm(numbers: Int32Array, at: number, word: number, sum: number): number {
  const low = Math.imul(numbers[at]!, word & 0xffff);
  const high = Math.imul(numbers[at + 1]!, word >>> 16);
  return (sum + low + high) | 0;
}

/** Makes neighbours of sums that are equally far apart, as those of counted addresses are. */
export function spread(sum: number): number {
  const mixed = Math.imul(sum ^ (sum >>> 15), 0x85ebca6b);
  return mixed ^ (mixed >>> 16);
}

/** As above of a text: each character is one digit. `numbers`: one, and one for each character. */
export function textHash(numbers: Int32Array, text: string): number {
  let sum = numbers[0]!;
  for (let i = 0; i < text.length; i++)
    sum = (sum + Math.imul(numbers[i + 1]!, text.charCodeAt(i))) | 0;
  return spread(sum);
}
