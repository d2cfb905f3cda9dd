// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The internet checksum (RFC 1071) and the pseudo headers of IPv4 (RFC 768, 9293) and IPv6 (RFC 8200, 8.1). */

/** One's complement sum of 16-bit words, folded; an odd last byte counts as the high byte of a word. */
export function onesComplementSum(bytes: Uint8Array, initial = 0): number {
  let sum = initial;
  for (let i = 0; i < bytes.length; i += 2) sum += (bytes[i] ?? 0) * 256 + (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum % 0x10000) + Math.floor(sum / 0x10000);
  return sum;
}

/** The value to write into a checksum field that is zero in `bytes`. */
export function internetChecksum(bytes: Uint8Array, initial = 0): number {
  return ~onesComplementSum(bytes, initial) & 0xffff;
}

/** Sum of the pseudo header, to start the sum over a UDP, TCP or ICMPv6 segment of `length` bytes. */
export function pseudoHeaderSum(
  source: Uint8Array,
  destination: Uint8Array,
  protocol: number,
  length: number,
): number {
  const words = onesComplementSum(source) + onesComplementSum(destination);
  return onesComplementSum(
    new Uint8Array(0),
    words + protocol + (length >>> 16) + (length & 0xffff),
  );
}
