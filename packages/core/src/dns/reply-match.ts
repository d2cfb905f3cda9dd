// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Whether a message answers the query that was sent with its id on this socket (threat T8): by its
 * question, or as an error that carries none. Only queries of opcode QUERY are sent, and a reply has the
 * opcode of its query (RFC 1035 section 4.1.1). Reads header and question, allocates nothing.
 */

import { assert } from '../assert.ts';
import { dnsHeaderBytes } from '../limits.ts';
import { lowerOfOctet } from './alphabet.ts';
import { flagQr, opcodeMask, rcodeMask, rcodeNoError, rcodeNxDomain } from './constants.ts';
import { wordAt } from './wire.ts';

/** No answer to this query: the true one may still come. */
export const matchNone = 0;
/** The question came back octet by octet. */
export const matchExact = 1;
/**
 * The question came back with letters of other case: the same name (RFC 4343 section 3). To be
 * delivered, since the client can compare it; not to be learned from, since a forger who does not see
 * the query cannot guess its case (0x20).
 */
export const matchOtherCase = 2;
/**
 * An error without question (RFC 9619 section 4): header and perhaps an OPT, as old servers answer
 * FORMERR and unbound a refusal. To be delivered; it teaches nothing.
 */
export const matchErrorWithoutQuestion = 3;

export type ReplyMatch =
  | typeof matchNone
  | typeof matchExact
  | typeof matchOtherCase
  | typeof matchErrorWithoutQuestion;

/** QTYPE and QCLASS. */
const questionFieldsBytes = 4;

/**
 * How the message in [start, end) of `bytes` answers the query at `sentStart` of `sent`, whose question
 * is [12, sentQuestionEnd).
 */
export function matchReply(
  bytes: Uint8Array,
  start: number,
  end: number,
  sent: Uint8Array,
  sentStart: number,
  sentQuestionEnd: number,
): ReplyMatch {
  assert(start >= 0 && end <= bytes.length, 'a message lies in its buffer');
  if (end - start < dnsHeaderBytes) return matchNone;
  const flags = wordAt(bytes, start + 2);
  if ((flags & (flagQr | opcodeMask)) !== flagQr) return matchNone;
  const questions = wordAt(bytes, start + 4);
  if (questions === 0) {
    return isErrorWithoutQuestion(bytes, start, flags) ? matchErrorWithoutQuestion : matchNone;
  }
  if (questions !== 1 || end - start < sentQuestionEnd) return matchNone;
  return compareQuestions(bytes, start, sent, sentStart, sentQuestionEnd);
}

/**
 * Whether a message without question is an error. NOERROR and NXDOMAIN say something of a name, which
 * would be missing; records of an answer would belong to none.
 */
export function isErrorWithoutQuestion(bytes: Uint8Array, start: number, flags: number): boolean {
  const rcode = flags & rcodeMask;
  if (rcode === rcodeNoError || rcode === rcodeNxDomain) return false;
  return wordAt(bytes, start + 4) === 0 && wordAt(bytes, start + 6) === 0;
}

function compareQuestions(
  bytes: Uint8Array,
  start: number,
  sent: Uint8Array,
  sentStart: number,
  sentQuestionEnd: number,
): ReplyMatch {
  const nameEnd = sentQuestionEnd - questionFieldsBytes;
  let match: ReplyMatch = matchExact;
  for (let i = dnsHeaderBytes; i < sentQuestionEnd; i++) {
    const octet = bytes[start + i]!;
    const sentOctet = sent[sentStart + i]!;
    if (octet === sentOctet) continue;
    // Length octets are below any letter, so only letters of labels are equal without being the same.
    if (i >= nameEnd || lowerOfOctet[octet] !== lowerOfOctet[sentOctet]) return matchNone;
    match = matchOtherCase;
  }
  return match;
}
