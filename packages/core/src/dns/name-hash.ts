// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * HalfSipHash-1-3 (Aumasson and Bernstein; the variant of Linux' hsiphash): a keyed 32-bit hash. Pods
 * choose the names that we store, so an unkeyed hash would let one pod make all of them collide.
 */

/** A 64-bit key, random for each process. */
export interface HashKey {
  readonly low: number;
  readonly high: number;
}

/** The hash of `length` octets at `start`, as a signed 32-bit integer. */
export function hashBytes(bytes: Uint8Array, start: number, length: number, key: HashKey): number {
  const wordsEnd = start + (length & ~3);
  let v0 = key.low | 0;
  let v1 = key.high | 0;
  let v2 = 0x6c796765 ^ v0;
  let v3 = 0x74656462 ^ v1;
  let at = start;
  for (let word = 0, round = 0; round < 4; ) {
    // One body for all rounds: octets, the last word with the length, then three of finalisation.
    if (at < wordsEnd) {
      word = bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
      at += 4;
    } else if (round === 0) {
      word = length << 24;
      if ((length & 3) > 0) word |= bytes[at]!;
      if ((length & 3) > 1) word |= bytes[at + 1]! << 8;
      if ((length & 3) > 2) word |= bytes[at + 2]! << 16;
      round = 1;
    } else {
      if (round === 1) v2 ^= 0xff;
      word = 0;
      round++;
    }
    v3 ^= word;
    v0 = (v0 + v1) | 0;
    v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0;
    v0 = (v0 << 16) | (v0 >>> 16);
    v2 = (v2 + v3) | 0;
    v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2;
    v0 = (v0 + v3) | 0;
    v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0;
    v2 = (v2 + v1) | 0;
    v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2;
    v2 = (v2 << 16) | (v2 >>> 16);
    v0 ^= word;
  }
  return v1 ^ v3;
}
