// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The record of one answered or refused query, from the DNS worker to the main thread and on to the
 * other process; an answer with many addresses has several. Fixed layout, little-endian, so that nothing is allocated to write it:
 *
 *    0 u32 length of the record        40 u8[16] server, as the pod asked it
 *    4 u8 verdict, u8 protocol,        56 u16 client port, u16 name length
 *      u8 member, u8 flags             60 u8 addresses, u8 rcode, u16 qtype
 *    8 f64 boottime, microseconds      64 u32 policy id, u32 namespace id
 *   16 u32 endpoint id                 72 name, wire format, lower case
 *   20 u32 latency, microseconds       .. addresses: u8[16], u32 expiry (boottime seconds)
 *   24 u8[16] client
 */

import type { QueryView } from '@tandem/core/dns/query';
import type { ReplyView } from '@tandem/core/dns/reply';
import type { EndpointId, GroupIndex } from '@tandem/core/ids';
import { dnsEventAddressesMax } from '@tandem/proto/limits';
import type { SharedRingWriter } from '@tandem/runtime/shared-ring';
import { clampTtl } from '../answer/ttl.ts';
import { counter } from '../counters.ts';

export const dnsVerdict = { allowed: 1, denied: 2, failed: 3, timeout: 4 } as const;
/** Answers of this server count for the selectors of all policies. */
export const flagTrusted = 1;
/** The answer taught the datapath something: the name caches want it. */
export const flagLearned = 2;
/** No selector wants the answer: the name caches keep it for one that may come. */
export const flagUnselected = 4;
/** Further addresses of the answer of the record before, for the name caches alone: no event of its own. */
export const flagContinued = 8;
/** An answer that the name caches want. */
export const flagsTeaching: number = flagLearned | flagUnselected;

/** Kind of these records in the ring. */
export const ringKindDnsEvent = 1;

/** Octets of a record before the name, and of each address behind it. */
export const dnsRecordHeaderBytes = 72;
export const dnsRecordAddressBytes = 20;
/** Where fields are in a record, for readers that decode nothing. */
export const dnsRecordField = {
  verdict: 4,
  member: 6,
  flags: 7,
  timeUs: 8,
  endpointId: 16,
  nameLength: 58,
  addressCount: 60,
  policyId: 64,
  namespaceId: 68,
} as const;
export const dnsRecordBytesMax: number =
  dnsRecordHeaderBytes + 255 + dnsEventAddressesMax * dnsRecordAddressBytes;

/** Fields of an event; one object serves all events of a thread. */
export class DnsEventFields {
  verdict = 0;
  protocol = 17;
  flags = 0;
  timeUs = 0;
  endpointId = 0;
  latencyUs = 0;
  clientPort = 0;
  policyId = 0;
  namespaceId = 0;
  rcode = 0;
  /** Addresses of 4 words each, in memory order. */
  words: Uint32Array = new Uint32Array(8);
  client = 0;
  server = 4;
  /** Added to each TTL for the expiry in the event: boottime seconds plus grace. */
  expiresBase = 0;
  /** TTLs below are taken for it, as the learner takes them. */
  ttlSecondsMin = 0;
}

/**
 * Writes events into the ring to the main thread; a full ring counts and loses them. A record begins at a
 * multiple of 8: its header and its name are written as words, in memory order as everywhere little-endian.
 */
export class DnsEventWriter {
  readonly #ring: SharedRingWriter;
  readonly #view: DataView;
  readonly #words: Int32Array;
  readonly #floats: Float64Array;
  readonly #counters: Float64Array;
  readonly #member: GroupIndex;

  constructor(ring: SharedRingWriter, counters: Float64Array, member: GroupIndex) {
    this.#ring = ring;
    const { buffer, byteOffset, byteLength } = ring.bytes;
    this.#view = new DataView(buffer, byteOffset);
    this.#words = new Int32Array(buffer, byteOffset, byteLength >> 2);
    this.#floats = new Float64Array(buffer, byteOffset, byteLength >> 3);
    this.#counters = counters;
    this.#member = member;
  }

  /**
   * `query` holds the question; `reply`, if any, the addresses. What an answer teaches is written whole, in further records for
   * addresses that the first one has no room for. False: the ring had no room for one of them.
   */
  write(fields: DnsEventFields, query: QueryView, reply: ReplyView | null): boolean {
    const { flags } = fields;
    let isWritten = this.#writeRecord(fields, flags, query, reply, 0);
    if (reply === null || (flags & flagsTeaching) === 0) return isWritten;
    const step = dnsEventAddressesMax;
    for (let first = step; first < reply.addressCount; first += step) {
      const continued = flags | flagContinued;
      isWritten = this.#writeRecord(fields, continued, query, reply, first) && isWritten;
    }
    return isWritten;
  }

  /** With addresses from the one at `first` on, as many as a record has room for. */
  #writeRecord(
    fields: DnsEventFields,
    flags: number,
    query: QueryView,
    reply: ReplyView | null,
    first: number,
  ): boolean {
    const at = this.#ring.reserve(ringKindDnsEvent, dnsRecordBytesMax);
    if (at < 0) {
      this.#counters[counter.eventsLost] = this.#counters[counter.eventsLost]! + 1;
      return false;
    }
    const { bytes } = this.#ring;
    const nameEnd = this.#writeHeader(at, fields, flags, query);
    let length = nameEnd - at;
    if (reply !== null) {
      const end = Math.min(reply.addressCount, first + dnsEventAddressesMax);
      bytes[at + 60] = end - first;
      for (let i = first; i < end; i++) {
        for (let b = 0; b < 16; b++) {
          bytes[at + length + b] = reply.addresses[i * 16 + b]!;
        }
        const ttl = clampTtl(reply.ttls[i]!, fields.ttlSecondsMin);
        this.#view.setUint32(at + length + 16, fields.expiresBase + ttl, true);
        length += dnsRecordAddressBytes;
      }
    }
    this.#view.setUint32(at, length, true);
    return this.#ring.commit(length);
  }

  /** All but the length and the number of addresses. Returns where the name ends. */
  #writeHeader(at: number, fields: DnsEventFields, flags: number, query: QueryView): number {
    const words = this.#words;
    const word = at >> 2;
    const nameLength = query.questionEnd === 0 ? 0 : query.nameLength;
    words[word + 1] =
      fields.verdict | (fields.protocol << 8) | (this.#member << 16) | (flags << 24);
    this.#floats[(at >> 3) + 1] = fields.timeUs;
    words[word + 4] = fields.endpointId;
    words[word + 5] = fields.latencyUs;
    for (let w = 0; w < 4; w++) {
      words[word + 6 + w] = fields.words[fields.client + w]!;
      words[word + 10 + w] = fields.words[fields.server + w]!;
    }
    words[word + 14] = fields.clientPort | (nameLength << 16);
    // No RCODE over 255 is assigned.
    words[word + 15] = (Math.min(fields.rcode, 255) << 8) | (query.qtype << 16);
    words[word + 16] = fields.policyId;
    words[word + 17] = fields.namespaceId;
    const { nameWords } = query;
    // Up to three octets more than the name: room for addresses is behind it.
    const end = (nameLength + 3) >> 2;
    for (let w = 0; w < end; w++) words[word + 18 + w] = nameWords[w]!;
    return at + dnsRecordHeaderBytes + nameLength;
  }
}

export interface DnsEvent {
  readonly verdict: number;
  readonly protocol: number;
  readonly member: GroupIndex;
  readonly isTrusted: boolean;
  readonly isLearned: boolean;
  readonly timeUs: number;
  readonly endpointId: EndpointId;
  readonly latencyUs: number;
  readonly client: Uint8Array;
  readonly server: Uint8Array;
  readonly clientPort: number;
  readonly name: Uint8Array;
  readonly qtype: number;
  readonly rcode: number;
  readonly policyId: number;
  readonly namespaceId: number;
  readonly addresses: readonly { readonly address: Uint8Array; readonly expires: number }[];
}

/** Reads a record at `offset`; null if it is not whole (it may come from another version's process). */
export function decodeDnsEvent(bytes: Uint8Array, offset = 0): DnsEvent | null {
  if (bytes.length - offset < dnsRecordHeaderBytes) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset + offset, bytes.length - offset);
  const length = view.getUint32(0, true);
  const nameLength = view.getUint16(58, true);
  const addressCount = view.getUint8(60);
  if (length !== dnsRecordHeaderBytes + nameLength + addressCount * dnsRecordAddressBytes)
    return null;
  if (length > bytes.length - offset || nameLength > 255) return null;
  const slice = (from: number, size: number): Uint8Array =>
    bytes.slice(offset + from, offset + from + size);
  const addresses = Array.from({ length: addressCount }, (_, i) => {
    const at = dnsRecordHeaderBytes + nameLength + i * dnsRecordAddressBytes;
    return { address: slice(at, 16), expires: view.getUint32(at + 16, true) };
  });
  const flags = view.getUint8(7);
  return {
    verdict: view.getUint8(4),
    protocol: view.getUint8(5),
    member: view.getUint8(6),
    isTrusted: (flags & flagTrusted) !== 0,
    isLearned: (flags & flagLearned) !== 0,
    timeUs: view.getFloat64(8, true),
    endpointId: view.getUint32(16, true),
    latencyUs: view.getUint32(20, true),
    client: slice(24, 16),
    server: slice(40, 16),
    clientPort: view.getUint16(56, true),
    name: slice(dnsRecordHeaderBytes, nameLength),
    qtype: view.getUint16(62, true),
    rcode: view.getUint8(61),
    policyId: view.getUint32(64, true),
    namespaceId: view.getUint32(68, true),
    addresses,
  };
}
