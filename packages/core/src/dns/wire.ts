// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Functions that the walkers of messages share: integers in network order, and names that may be compressed. Reads stay
 * inside [start, end) of a message; pointers go strictly backwards and are counted, so no message can make a walk longer than
 * its limits (threat T3).
 */

import { dnsHeaderBytes, labelBytesMax, nameBytesMax, pointerHopsMax } from '../limits.ts';
import { lowerOfOctet } from './alphabet.ts';

/** The 16-bit integer at `at`. */
export function wordAt(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!;
}

/** Stores the low 16 bits of `value` at `at`. */
export function setWordAt(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value;
}

/** The unsigned 32-bit integer at `at`. */
export function longAt(bytes: Uint8Array, at: number): number {
  return ((wordAt(bytes, at) << 16) | wordAt(bytes, at + 2)) >>> 0;
}

/**
 * The offset after the name at `at`, not following its pointer; 0 if it is malformed or does not end
 * before `end`.
 */
export function skipName(bytes: Uint8Array, at: number, end: number): number {
  const limit = Math.min(end, at + nameBytesMax);
  let next = at;
  while (next < limit) {
    const length = bytes[next]!;
    if (length === 0) return next + 1;
    if (length >= 0xc0) return next + 2 <= end ? next + 2 : 0;
    if (length > labelBytesMax) return 0;
    next += length + 1;
  }
  return 0;
}

/**
 * Expands the name at `at` of the message in [start, end) into `out` at `outStart`, lower-case, root
 * included. Its length, or 0 if it is malformed: cut short, over 255 octets, a reserved label type,
 * a pointer that is not strictly backwards or into the header, too many pointers. `out` has room for
 * `nameBytesMax` octets.
 */
export function expandName(
  bytes: Uint8Array,
  start: number,
  end: number,
  at: number,
  out: Uint8Array,
  outStart: number,
): number {
  let next = at;
  // Where the run of labels that is being read began: a pointer must lead to before it.
  let runStart = at;
  let hops = 0;
  let length = 0;
  for (;;) {
    if (next >= end) return 0;
    const octet = bytes[next]!;
    if (octet >= 0xc0) {
      if (next + 2 > end || ++hops > pointerHopsMax) return 0;
      const target = start + (wordAt(bytes, next) & 0x3fff);
      if (target >= runStart || target < start + dnsHeaderBytes) return 0;
      next = target;
      runStart = target;
      continue;
    }
    if (octet > labelBytesMax || next + octet >= end) return 0;
    if (length + octet + 1 > nameBytesMax) return 0;
    out[outStart + length++] = octet;
    if (octet === 0) return length;
    for (const labelEnd = next + 1 + octet; ++next < labelEnd; ) {
      out[outStart + length++] = lowerOfOctet[bytes[next]!]!;
    }
  }
}
