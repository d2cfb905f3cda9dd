// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Addresses as the kernel has them (4 or 16 bytes and a family), and as the product has them (16 bytes). */

import { addressBytes, ipv4PrefixBits, isIpv4, type Prefix, prefixOf } from '@tandem/core/net/ip';
import { AF_INET, AF_INET6 } from './constants.ts';

export function familyOf(address: Uint8Array): number {
  return isIpv4(address) ? AF_INET : AF_INET6;
}

export function toKernel(address: Uint8Array): Uint8Array {
  return isIpv4(address) ? address.subarray(12) : address;
}

/** Null: not of this family's length, or an IPv6 notation of an IPv4 address, which would be a second one. */
export function fromKernel(family: number, bytes: Uint8Array | undefined): Uint8Array | null {
  if (bytes === undefined) return null;
  if (family === AF_INET && bytes.length === 4) {
    const address = new Uint8Array(addressBytes);
    address.fill(0xff, 10, 12);
    address.set(bytes, 12);
    return address;
  }
  if (family !== AF_INET6 || bytes.length !== addressBytes || isIpv4(bytes)) return null;
  return bytes;
}

/** A destination; without bytes it is that of the default route. */
export function prefixFromKernel(
  family: number,
  bytes: Uint8Array | undefined,
  length: number,
): Prefix | null {
  const bits = family === AF_INET ? 32 : 128;
  if ((family !== AF_INET && family !== AF_INET6) || length > bits) return null;
  const address = fromKernel(family, bytes ?? new Uint8Array(bits / 8));
  return address === null ? null : prefixOf(address, lengthBefore(family) + length);
}

/** The kernel's length of a prefix. */
export function prefixLength({ address, bits }: Prefix): number {
  return bits - lengthBefore(familyOf(address));
}

function lengthBefore(family: number): number {
  return family === AF_INET ? ipv4PrefixBits : 0;
}
