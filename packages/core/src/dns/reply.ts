// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The bounded walker of replies (threats T1, T3, T5): which addresses does this reply give to the name
 * that was asked? Only A and AAAA records that were asked for count, of class IN, in the answer
 * section, at the end of the chain of aliases from the question, in a whole message with RCODE 0 and
 * without TC. The reply itself is passed on unchanged in any case.
 *
 * All records of the message are walked, and if one is cut short or malformed nothing is learned: a
 * client could read such a message differently.
 */

import { assert } from '../assert.ts';
import { dnsHeaderBytes, pointerHopsMax, replyAddressesMax } from '../limits.ts';
import { lowerOfOctet } from './alphabet.ts';
import { AliasChain } from './cname.ts';
import {
  classIn,
  flagQr,
  flagTc,
  opcodeMask,
  rcodeMask,
  typeA,
  typeAaaa,
  typeAny,
  typeCname,
  typeDname,
  typeOpt,
  typeSig,
  typeTsig,
} from './constants.ts';
import { nameLengthAt } from './name.ts';
import type { HashKey } from './name-hash.ts';
import { isErrorWithoutQuestion } from './reply-match.ts';
import { longAt, skipName, wordAt } from './wire.ts';

/** A reply whose addresses, perhaps none, can be learned. */
export const replyOk = 0;
/** Not a reply to this question: the true one may still come (threat T8). */
export const replyForeign = 1;
/** The right question, but a record is malformed or missing. */
export const replyMalformed = 2;
/** TC: the client asks again over TCP. */
export const replyTruncated = 3;
/** An RCODE other than 0, the extended one (RFC 6891) included. */
export const replyNegative = 4;
/** Aliases that are no single chain. */
export const replyBadChain = 5;

export type ReplyStatus =
  | typeof replyOk
  | typeof replyForeign
  | typeof replyMalformed
  | typeof replyTruncated
  | typeof replyNegative
  | typeof replyBadChain;

/** The question that was asked: a `QueryView`, or the kept fields of one. */
export interface Question {
  /** Lower-case wire form, root included. */
  readonly name: Uint8Array;
  readonly nameLength: number;
  readonly qtype: number;
}

/**
 * Result of `parseReply`. One object serves all replies of a thread. Offsets are relative to the start of the message. The
 * counts of addresses are 0 unless the status is `replyOk`.
 */
export class ReplyView {
  /** RCODE of the header and, unless a record is malformed, of the OPT record above it (RFC 6891 section 6.1.3). */
  rcode = 0;
  isTruncated = false;
  addressCount = 0;
  /** 16 octets each, IPv4 as ::ffff:a.b.c.d. */
  readonly addresses: Uint8Array = new Uint8Array(replyAddressesMax * 16);
  /** The same, 4 words each, in memory order. */
  readonly addressWords: Uint32Array = new Uint32Array(this.addresses.buffer);
  /** Seconds: the least of the record's TTL and those of the aliases. Over 2^31 - 1 is 0. */
  readonly ttls: Uint32Array = new Uint32Array(replyAddressesMax);
  /** `typeA` or `typeAaaa` of each address. */
  readonly types: Uint8Array = new Uint8Array(replyAddressesMax);
  /** Aliases between the question and the addresses. */
  cnameCount = 0;
  /** Address records over the limit. */
  skipped = 0;
  /** Aliases over the limit: the status is `replyBadChain`. */
  aliasesSkipped = 0;
  /** Address records of names, types and classes that were not asked for. */
  unrelated = 0;
  /** AAAA records with a v4-mapped address: they would open an IPv4 address. */
  mapped = 0;
  /** Offset after the question, 0 when there is none or it is not readable. */
  questionEnd = 0;
  /** Offset after the last record, 0 when a record is malformed. */
  messageEnd = 0;
  /** The OPT record, for edits; length 0 when there is none. */
  optOffset = 0;
  optLength = 0;
  /** A TSIG (RFC 8945) or SIG(0) (RFC 2931) is over the whole message: edits would break it. */
  isSigned = false;
  /** The aliases of the answer. */
  readonly chain: AliasChain;
  /** Address records that were asked for: offsets of owner and of type, before owners are compared. */
  readonly candidateOwners: Int32Array = new Int32Array(replyAddressesMax);
  readonly candidateFields: Int32Array = new Int32Array(replyAddressesMax);
  candidateCount = 0;

  constructor(key: HashKey) {
    this.chain = new AliasChain(key);
  }
}

/**
 * Parses the message in [start, end) of `bytes` as the reply to `question`. An error without question
 * (`matchErrorWithoutQuestion`) is negative. The case of the question is not compared: `matchReply`
 * says whether a reply may be learned from.
 */
export function parseReply(
  view: ReplyView,
  bytes: Uint8Array,
  start: number,
  end: number,
  question: Question,
): ReplyStatus {
  assert(start >= 0 && end <= bytes.length, 'a message lies in its buffer');
  reset(view);
  if (end - start < dnsHeaderBytes) return replyForeign;
  const flags = wordAt(bytes, start + 2);
  if ((flags & flagQr) === 0 || (flags & opcodeMask) !== 0) return replyForeign;
  view.rcode = flags & rcodeMask;
  view.isTruncated = (flags & flagTc) !== 0;
  let recordsFrom = start + dnsHeaderBytes;
  if (!isErrorWithoutQuestion(bytes, start, flags)) {
    recordsFrom = readQuestion(bytes, start, end, question);
    if (recordsFrom === 0) return replyForeign;
    view.questionEnd = recordsFrom - start;
  }
  const status = readSections(view, bytes, start, end, recordsFrom, question.qtype);
  if (view.isTruncated) return replyTruncated;
  view.aliasesSkipped = view.chain.skipped;
  if (status !== replyOk) return status;
  if (view.rcode !== 0) return replyNegative;
  if (!view.chain.follow(question.name, question.nameLength)) {
    return replyBadChain;
  }
  view.cnameCount = view.chain.hops;
  collect(view, bytes, start, end);
  return replyOk;
}

function reset(view: ReplyView): void {
  view.rcode = 0;
  view.isTruncated = false;
  view.addressCount = 0;
  view.cnameCount = 0;
  view.skipped = 0;
  view.aliasesSkipped = 0;
  view.unrelated = 0;
  view.mapped = 0;
  view.questionEnd = 0;
  view.messageEnd = 0;
  view.optOffset = 0;
  view.optLength = 0;
  view.isSigned = false;
  view.candidateCount = 0;
  view.chain.reset();
}

/** The offset after the question if it is `question`, in whatever case; else 0. */
function readQuestion(bytes: Uint8Array, start: number, end: number, question: Question): number {
  if (wordAt(bytes, start + 4) !== 1) return 0;
  const nameStart = start + dnsHeaderBytes;
  const length = nameLengthAt(bytes, nameStart, end);
  if (length !== question.nameLength || nameStart + length + 4 > end) return 0;
  for (let i = 0; i < length; i++) {
    if (lowerOfOctet[bytes[nameStart + i]!] !== question.name[i]) return 0;
  }
  const after = nameStart + length;
  if (wordAt(bytes, after) !== question.qtype || wordAt(bytes, after + 2) !== classIn) return 0;
  return after + 4;
}

/** Walks all three sections and collects what the answer section holds. */
function readSections(
  view: ReplyView,
  bytes: Uint8Array,
  start: number,
  end: number,
  questionEnd: number,
  qtype: number,
): ReplyStatus {
  const answers = wordAt(bytes, start + 6);
  const additionalsFrom = answers + wordAt(bytes, start + 8);
  const records = additionalsFrom + wordAt(bytes, start + 10);
  let extendedRcode = 0;
  let at = questionEnd;
  for (let i = 0; i < records; i++) {
    const fields = skipName(bytes, at, end);
    if (fields === 0 || fields + 10 > end) return replyMalformed;
    const next = fields + 10 + wordAt(bytes, fields + 8);
    if (next > end) return replyMalformed;
    if (i < answers) {
      if (!readAnswer(view, bytes, start, end, at, fields, next, qtype)) return replyMalformed;
    } else if (i >= additionalsFrom) {
      const type = wordAt(bytes, fields);
      if (type === typeOpt) {
        if (view.optLength !== 0 || fields !== at + 1) return replyMalformed;
        view.optOffset = at - start;
        view.optLength = next - at;
        extendedRcode = bytes[fields + 4]!;
      } else if (type === typeTsig || type === typeSig) {
        view.isSigned = true;
      }
    }
    at = next;
  }
  view.messageEnd = at - start;
  view.rcode |= extendedRcode << 4;
  return replyOk;
}

/** Takes up one record of the answer section. False if it is malformed. */
function readAnswer(
  view: ReplyView,
  bytes: Uint8Array,
  start: number,
  end: number,
  owner: number,
  fields: number,
  next: number,
  qtype: number,
): boolean {
  const type = wordAt(bytes, fields);
  const isIn = wordAt(bytes, fields + 2) === classIn;
  const data = fields + 10;
  if (type === typeA || type === typeAaaa) {
    if (next - data !== (type === typeA ? 4 : 16)) return false;
    if (!isIn || (qtype !== type && qtype !== typeAny)) {
      view.unrelated++;
    } else if (view.candidateCount === replyAddressesMax) {
      view.skipped++;
    } else {
      view.candidateOwners[view.candidateCount] = owner;
      view.candidateFields[view.candidateCount++] = fields;
    }
    return true;
  }
  if (!isIn || (type !== typeCname && type !== typeDname)) return true;
  if (skipName(bytes, data, next) !== next) return false;
  const ttl = ttlAt(bytes, fields + 4);
  return view.chain.add(bytes, start, end, owner, data, ttl, type === typeDname);
}

const noPlace = -1;

/** Keeps the candidates that belong to the name at the end of the chain. */
function collect(view: ReplyView, bytes: Uint8Array, start: number, end: number): void {
  const { chain } = view;
  // Owners are mostly pointers to one place: the last place that proved equal is remembered. It was
  // backwards for an earlier record, so it is for a later one. An owner that is written out has no place, and is always compared.
  let equalTarget = chain.hops === 0 ? dnsHeaderBytes : noPlace;
  for (let i = 0; i < view.candidateCount; i++) {
    const owner = view.candidateOwners[i]!;
    const target = bytes[owner]! >= 0xc0 ? wordAt(bytes, owner) & 0x3fff : noPlace;
    if (target === noPlace || target !== equalTarget) {
      if (!nameEquals(bytes, start, end, owner, chain.name, chain.nameLength)) {
        view.unrelated++;
        continue;
      }
      equalTarget = target;
    }
    addAddress(view, bytes, view.candidateFields[i]!, chain.ttl);
  }
}

function addAddress(view: ReplyView, bytes: Uint8Array, fields: number, chainTtl: number): void {
  const type = wordAt(bytes, fields);
  const data = fields + 10;
  if (type === typeAaaa && isMapped(bytes, data)) {
    view.mapped++;
    return;
  }
  const index = view.addressCount++;
  const out = index * 16;
  if (type === typeA) {
    for (let i = 0; i < 12; i++) view.addresses[out + i] = i < 10 ? 0 : 0xff;
    for (let i = 0; i < 4; i++) view.addresses[out + 12 + i] = bytes[data + i]!;
  } else {
    for (let i = 0; i < 16; i++) view.addresses[out + i] = bytes[data + i]!;
  }
  view.types[index] = type;
  view.ttls[index] = Math.min(chainTtl, ttlAt(bytes, fields + 4));
}

function isMapped(bytes: Uint8Array, at: number): boolean {
  for (let i = 0; i < 10; i++) if (bytes[at + i] !== 0) return false;
  return bytes[at + 10] === 0xff && bytes[at + 11] === 0xff;
}

/** A TTL with the top bit set is 0 (RFC 2181 section 8). */
function ttlAt(bytes: Uint8Array, at: number): number {
  const ttl = longAt(bytes, at);
  return ttl > 0x7fffffff ? 0 : ttl;
}

/** Whether the name at `name` is the lower-case name `wanted` of `length` octets. */
function nameEquals(
  bytes: Uint8Array,
  start: number,
  end: number,
  name: number,
  wanted: Uint8Array,
  length: number,
): boolean {
  let at = name;
  let runStart = name;
  let compared = 0;
  for (let hops = 0; at < end; ) {
    const octet = bytes[at]!;
    if (octet >= 0xc0) {
      if (++hops > pointerHopsMax || at + 2 > end) return false;
      const target = start + (wordAt(bytes, at) & 0x3fff);
      if (target >= runStart || target < start + dnsHeaderBytes) return false;
      at = target;
      runStart = target;
      continue;
    }
    if (octet !== wanted[compared] || at + octet >= end) return false;
    compared++;
    if (octet === 0) return compared === length;
    for (const labelEnd = at + 1 + octet; ++at < labelEnd; compared++) {
      if (lowerOfOctet[bytes[at]!] !== wanted[compared]) return false;
    }
  }
  return false;
}
