// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * From the name that was asked to the name that the addresses belong to: the CNAME and DNAME records
 * of one answer, in any order (RFC 1034 section 3.6.2, RFC 6672). Copies of a record are one record
 * (RFC 2181 section 5), with the least of their TTLs. Anything but one plain chain, two targets for
 * a name, a loop, too many records, leads nowhere, and nothing is learned.
 */

import { nameBytesMax, replyAliasesMax, replyAliasRecordsMax } from '../limits.ts';
import { type HashKey, hashBytes } from './name-hash.ts';
import { expandName } from './wire.ts';

const nameStride = nameBytesMax + 1;
/** The record that is read goes behind those that are kept: it may be a copy. */
const places = replyAliasesMax + 1;

export class AliasChain {
  /** The name at the end, lower-case wire form: the first `nameLength` octets. */
  readonly name: Uint8Array = new Uint8Array(nameStride);
  nameLength = 0;
  /** Least TTL of the records that were followed, in seconds; 2^32 - 1 when none was. */
  ttl = 0xffffffff;
  /** Records that were followed. */
  hops = 0;
  /** Different records that were added since `reset`. */
  count = 0;
  /** Records beyond the limits. */
  skipped = 0;
  #looked = 0;
  readonly #owners = new Uint8Array(places * nameStride);
  readonly #ownerLengths = new Uint8Array(places);
  readonly #ownerHashes = new Int32Array(places);
  readonly #targets = new Uint8Array(places * nameStride);
  readonly #targetLengths = new Uint8Array(places);
  readonly #ttls = new Float64Array(places);
  readonly #isDname = new Uint8Array(places);
  readonly #isUsed = new Uint8Array(places);
  readonly #key: HashKey;

  constructor(key: HashKey) {
    this.#key = key;
  }

  /** Forgets the records of the message before. */
  reset(): void {
    this.count = 0;
    this.skipped = 0;
    this.#looked = 0;
    this.hops = 0;
    this.ttl = 0xffffffff;
  }

  /**
   * Adds a record of the message in [start, end): its owner's name is at `ownerAt`, the target's at
   * `targetAt`. False if a name is malformed.
   */
  add(
    bytes: Uint8Array,
    start: number,
    end: number,
    ownerAt: number,
    targetAt: number,
    ttl: number,
    isDname: boolean,
  ): boolean {
    if (this.skipped !== 0 || this.#looked === replyAliasRecordsMax) {
      this.skipped++;
      return true;
    }
    this.#looked++;
    const index = this.count;
    const base = index * nameStride;
    const ownerLength = expandName(bytes, start, end, ownerAt, this.#owners, base);
    const targetLength = expandName(bytes, start, end, targetAt, this.#targets, base);
    if (ownerLength === 0 || targetLength === 0) return false;
    this.#ownerLengths[index] = ownerLength;
    this.#ownerHashes[index] = hashBytes(this.#owners, base, ownerLength, this.#key);
    this.#targetLengths[index] = targetLength;
    this.#ttls[index] = ttl;
    this.#isDname[index] = isDname ? 1 : 0;
    this.#isUsed[index] = 0;
    const copied = this.#copyOf(index);
    if (copied !== none) this.#ttls[copied] = Math.min(this.#ttls[copied]!, ttl);
    else if (index === replyAliasesMax) this.skipped++;
    else this.count++;
    return true;
  }

  /** The record before `index` that is the same but for its TTL. */
  #copyOf(index: number): number {
    const base = index * nameStride;
    const ownerLength = this.#ownerLengths[index]!;
    const targetLength = this.#targetLengths[index]!;
    for (let i = 0; i < index; i++) {
      if (this.#ownerHashes[i] !== this.#ownerHashes[index]) continue;
      if (this.#isDname[i] !== this.#isDname[index]) continue;
      if (this.#ownerLengths[i] !== ownerLength || this.#targetLengths[i] !== targetLength)
        continue;
      if (!sameOctets(this.#owners, i * nameStride, base, ownerLength)) continue;
      if (sameOctets(this.#targets, i * nameStride, base, targetLength)) return i;
    }
    return none;
  }

  /** Follows the records from `name`. False if they are no single chain. */
  follow(name: Uint8Array, nameLength: number): boolean {
    copyOctets(name, 0, this.name, 0, nameLength);
    this.nameLength = nameLength;
    if (this.skipped !== 0) return false;
    // Each record is used once, so there are at most `count` steps.
    for (;;) {
      let index = this.#findCname();
      if (index === none) index = this.#findDname();
      if (index === none) return true;
      if (index === several || this.#isUsed[index] === 1) return false;
      if (!this.#step(index)) return false;
    }
  }

  /** The CNAME record of the current name. A synthesised one comes before its DNAME. */
  #findCname(): number {
    const hash = this.count === 0 ? 0 : hashBytes(this.name, 0, this.nameLength, this.#key);
    let found: number = none;
    for (let i = 0; i < this.count; i++) {
      if (this.#isDname[i] === 1 || this.#ownerHashes[i] !== hash) continue;
      if (this.#ownerLengths[i] !== this.nameLength || !this.#isSuffix(i)) continue;
      if (found !== none) return several;
      found = i;
    }
    return found;
  }

  /** The DNAME record of a name above the current one. */
  #findDname(): number {
    let found: number = none;
    for (let i = 0; i < this.count; i++) {
      if (this.#isDname[i] !== 1 || this.#ownerLengths[i]! >= this.nameLength) continue;
      if (!this.#isLabelBoundary(this.nameLength - this.#ownerLengths[i]!)) continue;
      if (!this.#isSuffix(i)) continue;
      if (found !== none) return several;
      found = i;
    }
    return found;
  }

  /** Whether the current name ends in the owner of record `index`. */
  #isSuffix(index: number): boolean {
    const length = this.#ownerLengths[index]!;
    const offset = this.nameLength - length;
    const base = index * nameStride;
    for (let i = 0; i < length; i++) {
      if (this.name[offset + i] !== this.#owners[base + i]) return false;
    }
    return true;
  }

  #isLabelBoundary(offset: number): boolean {
    let at = 0;
    while (at < offset) at += this.name[at]! + 1;
    return at === offset;
  }

  /** Puts the target in the place of the owner. False if the name would get too long. */
  #step(index: number): boolean {
    const kept = this.nameLength - this.#ownerLengths[index]!;
    const targetLength = this.#targetLengths[index]!;
    if (kept + targetLength > nameBytesMax) return false;
    copyOctets(this.#targets, index * nameStride, this.name, kept, targetLength);
    this.nameLength = kept + targetLength;
    this.ttl = Math.min(this.ttl, this.#ttls[index]!);
    this.#isUsed[index] = 1;
    this.hops++;
    return true;
  }
}

const none = -1;
const several = -2;

function copyOctets(
  source: Uint8Array,
  start: number,
  target: Uint8Array,
  targetStart: number,
  length: number,
): void {
  for (let i = 0; i < length; i++) target[targetStart + i] = source[start + i]!;
}

function sameOctets(bytes: Uint8Array, first: number, second: number, length: number): boolean {
  for (let i = 0; i < length; i++) if (bytes[first + i] !== bytes[second + i]) return false;
  return true;
}
