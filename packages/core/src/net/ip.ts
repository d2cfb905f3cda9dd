// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * IP addresses and prefixes as bytes. An address is 16 bytes in network order, IPv4 as
 * ::ffff:a.b.c.d; text exists only at the edges and is canonical (RFC 5952; IPv4 dotted).
 * The two families never contain each other: ::/0 does not hold 192.0.2.1.
 */

/** `bits` counts from the first of 128 bits: IPv4 prefixes are 96 + n. Bits beyond it are zero. */
export interface Prefix {
  readonly address: Uint8Array;
  readonly bits: number;
}

/** Bytes of an address. */
export const addressBytes = 16;
/** Bits before an IPv4 address in its 16 bytes. */
export const ipv4PrefixBits = 96;

/** An address from its text, or null. Accepts ::ffff:a.b.c.d, which is the same address as a.b.c.d; no zones. */
export function parseAddress(text: string): Uint8Array | null {
  const bytes = new Uint8Array(addressBytes);
  if (!text.includes(':')) {
    bytes[10] = 0xff;
    bytes[11] = 0xff;
    return parseIpv4Into(text, bytes, 12) ? bytes : null;
  }
  return parseIpv6Into(text, bytes) ? bytes : null;
}

/** Canonical text of the address at `offset`. */
export function formatAddress(bytes: Uint8Array, offset = 0): string {
  if (isIpv4(bytes, offset)) {
    return `${bytes[offset + 12]}.${bytes[offset + 13]}.${bytes[offset + 14]}.${bytes[offset + 15]}`;
  }
  const groups: number[] = [];
  for (let index = 0; index < addressBytes; index += 2) {
    groups.push(((bytes[offset + index] ?? 0) << 8) | (bytes[offset + index + 1] ?? 0));
  }
  const zeros = longestZeroRun(groups);
  const head = groups.slice(0, zeros.start).map(hexadecimal).join(':');
  if (zeros.length === 0) return head;
  const tail = groups
    .slice(zeros.start + zeros.length)
    .map(hexadecimal)
    .join(':');
  return `${head}::${tail}`;
}

/** True for ::ffff:0:0/96. */
export function isIpv4(bytes: Uint8Array, offset = 0): boolean {
  for (let index = 0; index < 10; index++) {
    if (bytes[offset + index] !== 0) return false;
  }
  return bytes[offset + 10] === 0xff && bytes[offset + 11] === 0xff;
}

/**
 * A prefix from `address/length`, or null. Host bits are cleared, as Cilium does. IPv6 notation of
 * IPv4-mapped space (::ffff:0:0/96 and inside it) is refused: it would be a second way to write IPv4.
 */
export function parsePrefix(text: string): Prefix | null {
  const slash = text.indexOf('/');
  if (slash < 0) return null;
  const lengthText = text.slice(slash + 1);
  if (!/^(0|[1-9][0-9]{0,2})$/.test(lengthText)) return null;
  const length = Number(lengthText);
  const address = parseAddress(text.slice(0, slash));
  if (address === null) return null;
  if (!isIpv4(address)) return length <= 128 ? prefixOf(address, length) : null;
  if (text.includes(':')) return null;
  return length <= 32 ? prefixOf(address, ipv4PrefixBits + length) : null;
}

/** Canonical `address/length`, the length in bits of the family. */
export function formatPrefix(prefix: Prefix): string {
  const length = isIpv4Prefix(prefix) ? prefix.bits - ipv4PrefixBits : prefix.bits;
  return `${formatAddress(prefix.address)}/${length}`;
}

/** True for prefixes of IPv4 addresses only. */
export function isIpv4Prefix(prefix: Prefix): boolean {
  return prefix.bits >= ipv4PrefixBits && isIpv4(prefix.address);
}

/** The prefix of `bits` bits that holds `address`. */
export function prefixOf(address: Uint8Array, bits: number): Prefix {
  const masked = new Uint8Array(addressBytes);
  const whole = bits >> 3;
  masked.set(address.subarray(0, whole));
  if ((bits & 7) !== 0) masked[whole] = (address[whole] ?? 0) & (0xff << (8 - (bits & 7)));
  return { address: masked, bits };
}

/** The prefix of one address. */
export function hostPrefix(address: Uint8Array): Prefix {
  return { address, bits: 128 };
}

/** True when `address` is of the prefix's family and inside it. */
export function prefixContains(prefix: Prefix, address: Uint8Array): boolean {
  return isIpv4Prefix(prefix) === isIpv4(address) && sharesBits(prefix, address);
}

/** True when every address of `inner` is in `outer`, of the same family. A prefix covers itself. */
export function prefixCovers(outer: Prefix, inner: Prefix): boolean {
  return (
    outer.bits <= inner.bits &&
    isIpv4Prefix(outer) === isIpv4Prefix(inner) &&
    sharesBits(outer, inner.address)
  );
}

/** As `prefixCovers` on the plain 128 bits, as the kernel's trie sees it: ::/0 covers IPv4. */
export function trieCovers(outer: Prefix, inner: Prefix): boolean {
  return outer.bits <= inner.bits && sharesBits(outer, inner.address);
}

/** Order of addresses as bytes. */
export function compareAddresses(left: Uint8Array, right: Uint8Array): number {
  for (let index = 0; index < addressBytes; index++) {
    const difference = (left[index] ?? 0) - (right[index] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** By address, then outer before inner: the order of a walk over nested prefixes. */
export function comparePrefixes(left: Prefix, right: Prefix): number {
  return compareAddresses(left.address, right.address) || left.bits - right.bits;
}

/**
 * The address as a text of one character an octet: a key of maps that sorts as `compareAddresses` does, and is cheaper
 * than the text that people read.
 */
export function addressKey(bytes: Uint8Array): string {
  return String.fromCharCode.apply(null, bytes as unknown as number[]);
}

/** Likewise of a prefix, in the order of `comparePrefixes`. */
export function prefixKey({ address, bits }: Prefix): string {
  return addressKey(address) + String.fromCharCode(bits);
}

/** Key of the last address of the prefix. */
export function lastKeyOf({ address, bits }: Prefix): string {
  const last = Uint8Array.from(address);
  for (let bit = bits; bit < 128; bit++)
    last[bit >> 3] = (last[bit >> 3] ?? 0) | (0x80 >> (bit & 7));
  return addressKey(last);
}

function sharesBits(prefix: Prefix, address: Uint8Array): boolean {
  const whole = prefix.bits >> 3;
  for (let index = 0; index < whole; index++) {
    if (prefix.address[index] !== address[index]) return false;
  }
  const rest = prefix.bits & 7;
  if (rest === 0) return true;
  const mask = 0xff << (8 - rest);
  return (((prefix.address[whole] ?? 0) ^ (address[whole] ?? 0)) & mask & 0xff) === 0;
}

/** Dotted quad without leading zeros: 010.0.0.1 is octal to some parsers, so it is nothing to us. */
function parseIpv4Into(text: string, bytes: Uint8Array, offset: number): boolean {
  const parts = text.split('.', 5);
  if (parts.length !== 4) return false;
  for (const [index, part] of parts.entries()) {
    if (!/^(0|[1-9][0-9]{0,2})$/.test(part) || Number(part) > 255) return false;
    bytes[offset + index] = Number(part);
  }
  return true;
}

function parseIpv6Into(text: string, bytes: Uint8Array): boolean {
  if (text.length > 45) return false;
  const halves = text.split('::', 3);
  if (halves.length > 2) return false;
  const head = parseGroups(halves[0] ?? '', halves.length === 1);
  const tail = halves.length === 2 ? parseGroups(halves[1] ?? '', true) : [];
  if (head === null || tail === null) return false;
  const missing = 8 - head.length - tail.length;
  if (halves.length === 1 ? missing !== 0 : missing < 1) return false;
  for (const [index, group] of head.entries()) writeGroup(bytes, index, group);
  for (const [index, group] of tail.entries()) {
    writeGroup(bytes, head.length + missing + index, group);
  }
  return true;
}

/** 16-bit groups of one side of "::"; a dotted quad may end the text and counts for two. */
function parseGroups(text: string, endsAddress: boolean): number[] | null {
  if (text === '') return [];
  const groups: number[] = [];
  const parts = text.split(':');
  for (const [index, part] of parts.entries()) {
    if (part.includes('.')) {
      const quad = new Uint8Array(4);
      if (!endsAddress || index !== parts.length - 1 || !parseIpv4Into(part, quad, 0)) return null;
      groups.push(((quad[0] ?? 0) << 8) | (quad[1] ?? 0), ((quad[2] ?? 0) << 8) | (quad[3] ?? 0));
      continue;
    }
    if (!/^[0-9a-fA-F]{1,4}$/.test(part)) return null;
    groups.push(Number.parseInt(part, 16));
  }
  return groups;
}

function writeGroup(bytes: Uint8Array, index: number, group: number): void {
  bytes[2 * index] = group >> 8;
  bytes[2 * index + 1] = group & 0xff;
}

/** The first longest run of at least two zero groups (RFC 5952, section 4.2); length 0 if none. */
function longestZeroRun(groups: readonly number[]): { start: number; length: number } {
  let best = { start: groups.length, length: 0 };
  let start = 0;
  for (let index = 0; index <= groups.length; index++) {
    if (groups[index] === 0) continue;
    if (index - start >= 2 && index - start > best.length) best = { start, length: index - start };
    start = index + 1;
  }
  return best;
}

function hexadecimal(group: number): string {
  return group.toString(16);
}
