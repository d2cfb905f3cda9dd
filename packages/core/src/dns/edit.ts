// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Edits of messages in place, and the replies that Tandem itself gives. A reply echoes the header's
 * id and the question as they were sent (0x20), and has an OPT record only if the query had one.
 */

import { assert } from '../assert.ts';
import { dnsHeaderBytes, udpPayloadBytes } from '../limits.ts';
import {
  edeNone,
  flagCd,
  flagQr,
  flagRa,
  flagRd,
  flagTc,
  opcodeMask,
  rcodeBadVers,
  rcodeFormErr,
  rcodeMask,
  typeOpt,
} from './constants.ts';
import type { QueryView } from './query.ts';
import type { ReplyView } from './reply.ts';
import { setWordAt, wordAt } from './wire.ts';

const optBytes = 11;
const edeBytes = 6;
const edeOptionCode = 15;
const keepaliveOptionCode = 11;

/** Octets that `writeReply` may need: header, question, OPT with an extended error. */
export const writtenReplyBytesMax: number = dnsHeaderBytes + 255 + 4 + optBytes + edeBytes;

/** The id of the message at `start`. */
export function idAt(bytes: Uint8Array, start: number): number {
  return wordAt(bytes, start);
}

/** Sets the id of the message at `start`. */
export function setId(bytes: Uint8Array, start: number, id: number): void {
  setWordAt(bytes, start, id);
}

/**
 * Writes the reply with `rcode` to the query that `view` holds and that begins at `start` of `bytes`
 * into [outStart, outEnd) of `out`, which may be the query's own place. `ede` is an extended error
 * (RFC 8914) or `edeNone`. Without a readable question (`view.questionEnd` 0) it is a bare header.
 * To an EDNS version over 0 it says BADVERS instead (RFC 6891 section 6.1.3), as unbound and Knot do, but
 * FORMERR to what is malformed, as unbound does. The length of the reply, 0 if it does not fit.
 */
export function writeReply(
  out: Uint8Array,
  outStart: number,
  outEnd: number,
  bytes: Uint8Array,
  start: number,
  view: QueryView,
  rcode: number,
  ede: number,
): number {
  assert(outStart >= 0 && outEnd <= out.length, 'a reply lies in its buffer');
  const hasQuestion = view.questionEnd !== 0;
  const questionEnd = hasQuestion ? view.questionEnd : dnsHeaderBytes;
  const isBadVersion = view.ednsVersion !== 0 && rcode !== rcodeFormErr;
  const given = isBadVersion ? rcodeBadVers : rcode;
  const error = isBadVersion ? edeNone : ede;
  const optLength = view.hasEdns ? optBytes + (error < 0 ? 0 : edeBytes) : 0;
  const length = questionEnd + optLength;
  if (outEnd - outStart < length) return 0;
  if (out !== bytes || outStart !== start) copy(bytes, start, out, outStart, questionEnd);
  const recursion = (view.flags & flagRd) !== 0 ? flagRd | flagRa : 0;
  const kept = view.flags & (opcodeMask | flagCd);
  setWordAt(out, outStart, view.id);
  setWordAt(out, outStart + 2, flagQr | kept | recursion | (given & rcodeMask));
  setWordAt(out, outStart + 4, hasQuestion ? 1 : 0);
  setWordAt(out, outStart + 6, 0);
  setWordAt(out, outStart + 8, 0);
  setWordAt(out, outStart + 10, view.hasEdns ? 1 : 0);
  if (view.hasEdns) writeOpt(out, outStart + questionEnd, given, view.isDnssecOk, error);
  return length;
}

/**
 * An OPT record (RFC 6891), version 0, with the upper bits of `rcode`; the DO bit is the query's (RFC 3225 section 3). It has no
 * cookie, whatever the query has: a responder ignores options that it does not implement (RFC 6891 section 6.1.2), as unbound and
 * Knot do without cookies.
 */
function writeOpt(
  out: Uint8Array,
  at: number,
  rcode: number,
  isDnssecOk: boolean,
  ede: number,
): void {
  out[at] = 0;
  setWordAt(out, at + 1, typeOpt);
  setWordAt(out, at + 3, udpPayloadBytes);
  setWordAt(out, at + 5, (rcode >>> 4) << 8);
  setWordAt(out, at + 7, isDnssecOk ? 0x8000 : 0);
  setWordAt(out, at + 9, ede < 0 ? 0 : edeBytes);
  if (ede < 0) return;
  setWordAt(out, at + 11, edeOptionCode);
  setWordAt(out, at + 13, 2);
  setWordAt(out, at + 15, ede);
}

/**
 * Cuts the reply in [start, end) of `bytes`, which `reply` describes, down to header, question and OPT,
 * and sets TC: the client asks again over TCP. An OPT that was cut off with the rest of the message is
 * replaced by one of ours if the query had one. The new length, at most `end - start`. A reply without a
 * readable question has none.
 */
export function truncateReply(
  bytes: Uint8Array,
  start: number,
  end: number,
  reply: ReplyView,
  query: QueryView,
): number {
  const hasQuestion = reply.questionEnd !== 0;
  const optStart = start + (hasQuestion ? reply.questionEnd : dnsHeaderBytes);
  let optLength = reply.optLength;
  if (optLength !== 0) {
    const from = start + reply.optOffset;
    bytes.copyWithin(optStart, from, from + optLength);
  } else if (query.hasEdns && end - optStart >= optBytes) {
    writeOpt(bytes, optStart, reply.rcode, query.isDnssecOk, edeNone);
    optLength = optBytes;
  }
  setWordAt(bytes, start + 2, wordAt(bytes, start + 2) | flagTc);
  setWordAt(bytes, start + 4, hasQuestion ? 1 : 0);
  setWordAt(bytes, start + 6, 0);
  setWordAt(bytes, start + 8, 0);
  setWordAt(bytes, start + 10, optLength !== 0 ? 1 : 0);
  return optStart + optLength - start;
}

/**
 * Replaces the timeout of the edns-tcp-keepalive options (RFC 7828) in the reply at `start` of `bytes`,
 * which `reply` describes, by `timeout`, in units of 100 ms: the server's is about its connection with
 * us, not about ours with the client. Whether one was there. A signed message is left as it is.
 */
export function setKeepalive(
  bytes: Uint8Array,
  start: number,
  reply: ReplyView,
  timeout: number,
): boolean {
  if (reply.optLength === 0 || reply.isSigned) return false;
  const optEnd = start + reply.optOffset + reply.optLength;
  let isSet = false;
  for (let at = start + reply.optOffset + optBytes; at + 4 <= optEnd; ) {
    const length = wordAt(bytes, at + 2);
    const next = at + 4 + length;
    if (next > optEnd) break;
    if (wordAt(bytes, at) === keepaliveOptionCode && length === 2) {
      setWordAt(bytes, at + 4, timeout);
      isSet = true;
    }
    at = next;
  }
  return isSet;
}

/** Copies forwards or backwards, as overlapping regions of one buffer need. */
function copy(
  source: Uint8Array,
  start: number,
  out: Uint8Array,
  outStart: number,
  length: number,
): void {
  if (source.buffer === out.buffer && source.byteOffset + start < out.byteOffset + outStart) {
    for (let i = length - 1; i >= 0; i--) out[outStart + i] = source[start + i]!;
  } else {
    for (let i = 0; i < length; i++) out[outStart + i] = source[start + i]!;
  }
}
