// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Records of the DNS worker as the main thread handles them: undecoded. They come from our own worker,
 * or laid end to end from the other process, which may be of another version.
 */

import { nameLengthAt } from '@tandem/core/dns/name';
import { type FqdnCache } from '@tandem/core/fqdn/cache';
import { fqdnAdded, fqdnExtended } from '@tandem/core/fqdn/mapping';
import { nameBytesMax } from '@tandem/core/limits';
import {
  dnsRecordAddressBytes,
  dnsRecordBytesMax,
  dnsRecordHeaderBytes,
  dnsRecordField as field,
  flagContinued,
  flagsTeaching,
  flagTrusted,
} from './dns-event.ts';

export function readU16(bytes: Uint8Array, at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8);
}

export function readU32(bytes: Uint8Array, at: number): number {
  return (readU16(bytes, at) | (readU16(bytes, at + 2) << 16)) >>> 0;
}

/** Length of the record at `at`, 0 when it is not whole or not one of ours. */
export function dnsRecordLength(bytes: Uint8Array, at: number): number {
  if (bytes.length - at < dnsRecordHeaderBytes) return 0;
  const length = readU32(bytes, at);
  if (length > bytes.length - at || length > dnsRecordBytesMax) return 0;
  const nameLength = readU16(bytes, at + field.nameLength);
  const addresses = bytes[at + field.addressCount]!;
  const expected = dnsRecordHeaderBytes + nameLength + addresses * dnsRecordAddressBytes;
  if (length !== expected) return 0;
  const name = at + dnsRecordHeaderBytes;
  const isName = nameLength === 0 || nameLengthAt(bytes, name, name + nameLength) === nameLength;
  return isName ? length : 0;
}

/** Index of the member that answered. */
export function memberOf(bytes: Uint8Array, at: number): number {
  return bytes[at + field.member]!;
}

/** When it was answered, boottime us. */
export function timeUsOf(bytes: Uint8Array, at: number): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, dnsRecordHeaderBytes);
  return view.getFloat64(field.timeUs, true);
}

/** Whether the record has further addresses of an answer, and is no event. */
export function isContinued(bytes: Uint8Array, at: number): boolean {
  return (bytes[at + field.flags]! & flagContinued) !== 0;
}

/** Teaches the name cache what answers say. */
export class NameFeed {
  readonly #cache: FqdnCache;
  readonly #name = new Uint8Array(nameBytesMax + 1);

  constructor(cache: FqdnCache) {
    this.#cache = cache;
  }

  /** Takes in a whole record. True: the cache knows something that it did not know before. */
  take(bytes: Uint8Array, at: number): boolean {
    const flags = bytes[at + field.flags]!;
    if ((flags & flagsTeaching) === 0) return false;
    const isTrusted = (flags & flagTrusted) !== 0;
    const scope = isTrusted ? 0 : readU32(bytes, at + field.policyId);
    const nameLength = readU16(bytes, at + field.nameLength);
    // The answer counts for no policy: its own is not known any more.
    if ((!isTrusted && scope === 0) || nameLength === 0) return false;
    const namespaceId = readU32(bytes, at + field.namespaceId);
    for (let i = 0; i < nameLength; i++) {
      this.#name[i] = bytes[at + dnsRecordHeaderBytes + i]!;
    }
    const addresses = bytes[at + field.addressCount]!;
    let isNews = false;
    for (let i = 0; i < addresses; i++) {
      const address = at + dnsRecordHeaderBytes + nameLength + i * dnsRecordAddressBytes;
      const status = this.#cache.learn(
        this.#name,
        nameLength,
        bytes,
        address,
        readU32(bytes, address + 16),
        namespaceId,
        scope,
      );
      if (status === fqdnAdded || status === fqdnExtended) isNews = true;
    }
    return isNews;
  }
}
