// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The bounded walker of queries (threats T1-T4). A query is accepted if it has no
 * more than this: one question without compression, class IN, at most an OPT and a TSIG behind it,
 * whose owners may be compressed (dnspython does so with the name of a key).
 * Work is one pass over the octets of the name and `queryAdditionalsMax` records, and over
 * `refusedQueryRecordsMax` records of a query that is refused; nothing outside [start, end) is read,
 * nothing is allocated, nothing throws.
 */

import { assert } from '../assert.ts';
import {
  dnsHeaderBytes,
  labelBytesMax,
  nameBytesMax,
  nameLabelsMax,
  queryAdditionalsMax,
  refusedQueryRecordsMax,
  udpPayloadBytesMin,
} from '../limits.ts';
import { codeDot, codeOther, foldOfOctet } from './alphabet.ts';
import { classIn, flagQr, opcodeMask, typeAxfr, typeIxfr, typeOpt, typeTsig } from './constants.ts';
import { type HashKey, hashBytes } from './name-hash.ts';
import { expandName, skipName, wordAt } from './wire.ts';

/** A query that policy can judge. */
export const queryOk = 0;
/** Not a query, or no whole header: no answer, or two servers could be made to talk for ever. */
export const queryDrop = 1;
/** To be answered FORMERR. */
export const queryFormErr = 2;
/**
 * To be answered NOTIMP: an opcode other than QUERY, a class other than IN (policy is about IN), or
 * a zone transfer (its answer is a stream of messages).
 */
export const queryNotImp = 3;

export type QueryStatus =
  | typeof queryOk
  | typeof queryDrop
  | typeof queryFormErr
  | typeof queryNotImp;

/**
 * Result of `parseQuery`. One object serves all queries of a thread. Offsets are relative to the start of the message, so
 * that they hold for a copy of it.
 */
export class QueryView {
  /** QNAME in wire form, lower-case, root included: the first `nameLength` octets. */
  readonly name: Uint8Array = new Uint8Array(nameBytesMax + 1);
  /** The same memory as words, to be copied faster. */
  readonly nameWords: Int32Array = new Int32Array(this.name.buffer);
  /** `name` in the alphabet of patterns; length octets are dots, the root is not written. */
  readonly codes: Uint8Array = new Uint8Array(nameBytesMax + 1);
  /** Where the length octet of each label is in `name`. */
  readonly labelOffsets: Uint8Array = new Uint8Array(nameLabelsMax + 1);
  nameLength = 0;
  labelCount = 0;
  /** True when all octets of the labels are in the alphabet of patterns. */
  isPlain = false;
  qtype = 0;
  qclass = 0;
  id = 0;
  /** The 16 bits after the id. */
  flags = 0;
  /** Offset after the question, which is then [12, questionEnd); 0 when none was readable. */
  questionEnd = 0;
  /**
   * Offset after the last record. Octets beyond it belong to no record: they must not be forwarded, so
   * that no server can read them differently.
   */
  messageEnd = 0;
  hasEdns = false;
  /** UDP payload size of the OPT record, at least 512 (RFC 6891 section 6.2.3); 512 without one. */
  udpPayloadSize: number = udpPayloadBytesMin;
  /** The DO bit of the OPT record. */
  isDnssecOk = false;
  /** EDNS version; 0 without an OPT record. */
  ednsVersion = 0;
  hasTsig = false;
  readonly key: HashKey;

  constructor(key: HashKey) {
    this.key = key;
  }

  /** Keyed hash of `name`, a signed 32-bit integer; computed when it is read. */
  get hash(): number {
    return hashBytes(this.name, 0, this.nameLength, this.key);
  }
}

/**
 * Parses the message in [start, end) of `bytes`. For every status but `queryDrop` all is set that
 * `writeReply` needs: `id`, `flags`, `hasEdns`, `isDnssecOk`, `ednsVersion`, and the question if
 * `questionEnd` is not 0. The rest is set for `queryOk` only.
 */
export function parseQuery(
  view: QueryView,
  bytes: Uint8Array,
  start: number,
  end: number,
): QueryStatus {
  assert(start >= 0 && end <= bytes.length, 'a message lies in its buffer');
  view.questionEnd = 0;
  view.messageEnd = 0;
  view.hasEdns = false;
  view.isDnssecOk = false;
  view.ednsVersion = 0;
  if (end - start < dnsHeaderBytes) return queryDrop;
  const flags = wordAt(bytes, start + 2);
  if ((flags & flagQr) !== 0) return queryDrop;
  view.id = wordAt(bytes, start);
  view.flags = flags;
  const status = readQuery(view, bytes, start, end);
  if (status !== queryOk) findOpt(view, bytes, start, end);
  return status;
}

/** Everything behind the flags. */
function readQuery(view: QueryView, bytes: Uint8Array, start: number, end: number): QueryStatus {
  const questionEnd = readQuestion(view, bytes, start, end);
  if ((view.flags & opcodeMask) !== 0) return queryNotImp;
  if (questionEnd === 0) return queryFormErr;
  if (view.qclass !== classIn) return queryNotImp;
  if (view.qtype === typeAxfr || view.qtype === typeIxfr) return queryNotImp;
  // Of queries only IXFR has records in these two sections.
  if (wordAt(bytes, start + 6) !== 0 || wordAt(bytes, start + 8) !== 0) return queryFormErr;
  const additionals = wordAt(bytes, start + 10);
  if (additionals > queryAdditionalsMax) return queryFormErr;
  const messageEnd = readAdditionals(view, bytes, start, questionEnd, end, additionals);
  if (messageEnd === 0) return queryFormErr;
  view.messageEnd = messageEnd - start;
  return queryOk;
}

/** The offset after the question; 0 unless there is exactly one (RFC 9619) that is readable. */
function readQuestion(view: QueryView, bytes: Uint8Array, start: number, end: number): number {
  if (wordAt(bytes, start + 4) !== 1) return 0;
  const nameEnd = readName(view, bytes, start + dnsHeaderBytes, end);
  if (nameEnd === 0 || nameEnd + 4 > end) return 0;
  view.qtype = wordAt(bytes, nameEnd);
  view.qclass = wordAt(bytes, nameEnd + 2);
  view.questionEnd = nameEnd + 4 - start;
  return nameEnd + 4;
}

/**
 * Loads the wire name at [start, end) into the name fields of `view`, as if it had been asked: for
 * matching names that come from a cache. False if there is no uncompressed name.
 */
export function loadName(view: QueryView, bytes: Uint8Array, start: number, end: number): boolean {
  assert(start >= 0 && end <= bytes.length, 'a name lies in its buffer');
  return readName(view, bytes, start, end) !== 0;
}

/** Copies, folds and classifies the name at `start`. The offset after it, 0 if it is malformed. */
function readName(view: QueryView, bytes: Uint8Array, start: number, end: number): number {
  const { name, codes, labelOffsets } = view;
  const limit = Math.min(end - start, nameBytesMax);
  let at = 0;
  let labels = 0;
  let seen = 0;
  for (;;) {
    if (at >= limit) return 0;
    const length = bytes[start + at]!;
    name[at] = length;
    if (length === 0) break;
    // Lengths over 63 are pointers and reserved types: a question has neither (threat T3).
    if (length > labelBytesMax || at + length + 1 >= limit) return 0;
    codes[at] = codeDot;
    labelOffsets[labels++] = at;
    for (const labelEnd = at + 1 + length; ++at < labelEnd; ) {
      const fold = foldOfOctet[bytes[start + at]!]!;
      name[at] = fold;
      codes[at] = fold >>> 8;
      seen |= fold;
    }
  }
  at++;
  view.nameLength = at;
  view.labelCount = labels;
  view.isPlain = seen >>> 8 < codeOther;
  return start + at;
}

/**
 * Looks for the OPT of a query that will be refused, since our reply has one if the query has (RFC 6891
 * section 6.1.1). An unreadable record ends the search.
 */
function findOpt(view: QueryView, bytes: Uint8Array, start: number, end: number): void {
  view.hasEdns = false;
  view.isDnssecOk = false;
  view.ednsVersion = 0;
  const questions = wordAt(bytes, start + 4);
  const additionalsFrom = questions + wordAt(bytes, start + 6) + wordAt(bytes, start + 8);
  const items = Math.min(additionalsFrom + wordAt(bytes, start + 10), refusedQueryRecordsMax);
  let at = start + dnsHeaderBytes;
  for (let i = 0; i < items; i++) {
    const fields = skipName(bytes, at, end);
    if (fields === 0) return;
    if (i < questions) {
      at = fields + 4;
      continue;
    }
    if (fields + 10 > end) return;
    const next = fields + 10 + wordAt(bytes, fields + 8);
    if (next > end) return;
    if (i >= additionalsFrom && fields === at + 1 && wordAt(bytes, fields) === typeOpt) {
      view.hasEdns = true;
      view.ednsVersion = bytes[fields + 5]!;
      view.isDnssecOk = (bytes[fields + 6]! & 0x80) !== 0;
      return;
    }
    at = next;
  }
}

/** Room for the owner of a record, of which only the length counts. */
const owner = new Uint8Array(nameBytesMax);

/**
 * Walks the additional section at `from` of the message at `start`. The offset after it, 0 if it holds what a query must
 * not have.
 */
function readAdditionals(
  view: QueryView,
  bytes: Uint8Array,
  start: number,
  from: number,
  end: number,
  count: number,
): number {
  view.udpPayloadSize = udpPayloadBytesMin;
  view.hasTsig = false;
  let at = from;
  for (let i = 0; i < count; i++) {
    const ownerLength = expandName(bytes, start, end, at, owner, 0);
    const fixed = skipName(bytes, at, end);
    if (ownerLength === 0 || fixed + 10 > end) return 0;
    const next = fixed + 10 + wordAt(bytes, fixed + 8);
    // A TSIG is the last record (RFC 8945 section 5.1).
    if (next > end || view.hasTsig) return 0;
    const type = wordAt(bytes, fixed);
    if (type === typeOpt) {
      if (view.hasEdns || ownerLength !== 1) return 0;
      view.hasEdns = true;
      view.udpPayloadSize = Math.max(udpPayloadBytesMin, wordAt(bytes, fixed + 2));
      view.ednsVersion = bytes[fixed + 5]!;
      view.isDnssecOk = (bytes[fixed + 6]! & 0x80) !== 0;
    } else if (type === typeTsig) {
      view.hasTsig = true;
    } else {
      return 0;
    }
    at = next;
  }
  return at;
}
