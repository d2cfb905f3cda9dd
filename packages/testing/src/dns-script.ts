// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Answers of a scripted DNS server: a list of rules, the first that matches a question counts. Pure: from the bytes of a
 * query to the datagrams (or TCP messages) to send and when.
 */

import { type Answer, encode, type RecordType } from 'dns-packet';
import { addressBytes, addressText } from './address.ts';
import { concatBytes } from './packet.ts';

/** A record; its owner is the name that was asked unless it names another (a chain, or poison). */
export interface RecordSpec {
  readonly name?: string;
  readonly type: 'A' | 'AAAA' | 'CNAME' | 'DNAME' | 'NS' | 'PTR' | 'TXT';
  readonly data: string;
  /** Seconds; default 60. */
  readonly ttl?: number;
}

/** How one reply departs from the true one. */
export type ReplyChange =
  | 'wrong-id'
  /** The question's letters change case, as a server that ignores 0x20 would answer. */
  | 'wrong-case'
  /** The question asks for another name of the same length. */
  | 'wrong-name'
  /** TC set, no records. */
  | 'truncated'
  /** TC set, all records. */
  | 'truncated-full'
  /** QR clear: a query, not a reply. */
  | 'not-a-reply'
  | 'two-questions'
  | 'no-question'
  /** Half of the message. */
  | 'cut';

export interface ReplySpec {
  readonly delayMs?: number;
  readonly change?: ReplyChange;
  /** The message as hex instead; its id is replaced by the query's. */
  readonly raw?: string;
  /** TCP only: closes the connection instead of answering. */
  readonly close?: boolean;
  /** TCP only: sends half of the message, then resets the connection; 'answered': after its first answer there, or 500 ms. */
  readonly reset?: boolean | 'answered';
}

export interface DnsRule {
  /** Names are lower case and without the final dot. None of the two: every name. */
  readonly name?: string;
  /** The name itself or below it. */
  readonly suffix?: string;
  readonly type?: RecordType;
  readonly transport?: 'udp' | 'tcp';
  /** The rule applies to every n-th query it matches; the others go on to the next rule. */
  readonly every?: number;
  /** Default NOERROR. */
  readonly rcode?: number;
  /** Records of the answer: those of the type in the question, and any CNAME, DNAME or record with a name of its own. */
  readonly answers?: readonly RecordSpec[];
  readonly authorities?: readonly RecordSpec[];
  readonly additionals?: readonly RecordSpec[];
  /** Address by the number in the first label: n-5.x → fifth address after the base. */
  readonly numbered?: { readonly ipv4?: string; readonly ipv6?: string; readonly ttl?: number };
  /** Default: one true reply at once. Empty: silence. */
  readonly replies?: readonly ReplySpec[];
}

export interface Question {
  readonly id: number;
  /** Lower case, without the final dot. */
  readonly name: string;
  /** As it was sent. */
  readonly sentName: string;
  readonly type: number;
  readonly flags: number;
  /** The question section's bytes. */
  readonly bytes: Uint8Array;
  /** From the OPT record, null without one. */
  readonly ednsBytes: number | null;
}

export interface Reply {
  readonly delayMs: number;
  /** null: close the connection. */
  readonly bytes: Uint8Array | null;
  /** The connection is reset in the middle of the message; 'answered': after its first answer, or 500 ms. */
  readonly reset: boolean | 'answered';
}

export const typeNumbers: Readonly<Record<RecordSpec['type'], number>> = {
  A: 1,
  NS: 2,
  CNAME: 5,
  PTR: 12,
  TXT: 16,
  AAAA: 28,
  DNAME: 39,
};
const headerBytes = 12;
const udpBytesWithoutEdns = 512;
const ednsUdpBytes = 1232;
const rcodeNxDomain = 3;
const optType = 41;

/** The question of a message, null if it has none that can be read. */
export function readQuestion(message: Uint8Array): Question | null {
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength);
  const labels: string[] = [];
  let at = headerBytes;
  while ((message[at] ?? 0) !== 0) {
    const end = at + 1 + (message[at] ?? 0);
    if ((message[at] ?? 0) > 63 || end >= message.length) return null;
    labels.push(Buffer.from(message.subarray(at + 1, end)).toString('latin1'));
    at = end;
  }
  if (at + 5 > message.length) return null;
  const sentName = labels.join('.');
  return {
    id: view.getUint16(0),
    name: sentName.toLowerCase(),
    sentName,
    type: view.getUint16(at + 1),
    flags: view.getUint16(2),
    // A copy: slice() of a Buffer would share its memory.
    bytes: Uint8Array.from(message.subarray(headerBytes, at + 5)),
    ednsBytes: readOpt(message, view, at + 5),
  };
}

/** Runs the rules; counts `every` per rule. */
export class DnsScript {
  readonly #rules: readonly { readonly rule: DnsRule; matched: number }[];

  constructor(rules: readonly DnsRule[]) {
    this.#rules = rules.map((rule) => ({ rule, matched: 0 }));
  }

  /** NXDOMAIN where no rule matches. */
  replies(question: Question, transport: 'udp' | 'tcp'): Reply[] {
    const entry = this.#rules.find((candidate) => {
      if (!matches(candidate.rule, question, transport)) return false;
      return ++candidate.matched % (candidate.rule.every ?? 1) === 0;
    });
    const rule = entry?.rule ?? { rcode: rcodeNxDomain };
    return (rule.replies ?? [{}]).map((reply) => ({
      delayMs: reply.delayMs ?? 0,
      bytes: reply.close === true ? null : buildReply(rule, reply, question, transport),
      reset: reply.reset ?? false,
    }));
  }
}

function readOpt(message: Uint8Array, view: DataView, at: number): number | null {
  const isOpt = view.getUint16(10) > 0 && at + 11 <= message.length && message[at] === 0;
  return isOpt && view.getUint16(at + 1) === optType ? view.getUint16(at + 3) : null;
}

function matches(rule: DnsRule, question: Question, transport: 'udp' | 'tcp'): boolean {
  const { name, suffix, type } = rule;
  if (name !== undefined && name !== question.name) return false;
  if (suffix !== undefined && `.${question.name}`.endsWith(`.${suffix}`) === false) return false;
  if (type !== undefined && typeNumbers[type as RecordSpec['type']] !== question.type) return false;
  return rule.transport === undefined || rule.transport === transport;
}

function buildReply(
  rule: DnsRule,
  reply: ReplySpec,
  question: Question,
  transport: 'udp' | 'tcp',
): Uint8Array {
  const id = reply.change === 'wrong-id' ? question.id ^ 0x5555 : question.id;
  if (reply.raw !== undefined) {
    return withId(new Uint8Array(Buffer.from(reply.raw, 'hex')), id);
  }
  const whole = assemble(rule, question, id, reply.change);
  const limit =
    question.ednsBytes === null ? udpBytesWithoutEdns : Math.max(512, question.ednsBytes);
  const isTooLong = transport === 'udp' && whole.length > limit;
  if (isTooLong) return assemble(rule, question, id, 'truncated');
  return reply.change === 'cut' ? whole.subarray(0, whole.length >> 1) : whole;
}

function assemble(
  rule: DnsRule,
  question: Question,
  id: number,
  change: ReplyChange | undefined,
): Uint8Array {
  const hasRecords = change !== 'truncated';
  const answers = hasRecords ? [...wanted(rule, question), ...numbered(rule, question)] : [];
  const sections = [
    answers,
    ...[rule.authorities ?? [], rule.additionals ?? []].map((s) => (hasRecords ? s : [])),
  ];
  const questions = questionSection(question, change);
  const header = new Uint8Array(headerBytes);
  const view = new DataView(header.buffer);
  const isTruncated = change === 'truncated' || change === 'truncated-full';
  const qr = change === 'not-a-reply' ? 0 : 0x8000;
  const copied = question.flags & 0x0110;
  view.setUint16(0, id);
  view.setUint16(2, qr | copied | 0x0480 | (isTruncated ? 0x0200 : 0) | (rule.rcode ?? 0));
  view.setUint16(4, questions.length);
  sections.forEach((records, i) => view.setUint16(6 + 2 * i, records.length));
  const parts = sections.flatMap((records) =>
    records.map((record) => encodeRecord(record, questions.length > 0, question)),
  );
  if (question.ednsBytes !== null) {
    view.setUint16(10, view.getUint16(10) + 1);
    parts.push(
      Uint8Array.of(0, 0, optType, ednsUdpBytes >> 8, ednsUdpBytes & 255, 0, 0, 0, 0, 0, 0),
    );
  }
  return concatBytes([header, ...questions, ...parts]);
}

function questionSection(question: Question, change: ReplyChange | undefined): Uint8Array[] {
  if (change === 'no-question') return [];
  if (change === 'two-questions') return [question.bytes, question.bytes];
  if (change !== 'wrong-case' && change !== 'wrong-name') return [question.bytes];
  const bytes = question.bytes.slice();
  // Up to the type and class; a length byte is below every letter.
  for (let i = 0; i < bytes.length - 4; i++) {
    const byte = bytes[i] ?? 0;
    if (!/[a-zA-Z]/.test(String.fromCharCode(byte)) || byte < 64) continue;
    bytes[i] = change === 'wrong-case' ? byte ^ 0x20 : (byte | 0x20) === 0x7a ? byte - 1 : byte + 1;
  }
  return [bytes];
}

function wanted(rule: DnsRule, question: Question): readonly RecordSpec[] {
  return (rule.answers ?? []).filter(
    ({ type, name }) =>
      typeNumbers[type] === question.type ||
      type === 'CNAME' ||
      type === 'DNAME' ||
      name !== undefined,
  );
}

function numbered(rule: DnsRule, question: Question): RecordSpec[] {
  const number = /^[^.]*?(\d+)(\.|$)/.exec(question.name)?.[1];
  const { ipv4, ipv6, ttl = 60 } = rule.numbered ?? {};
  if (number === undefined) return [];
  if (question.type === typeNumbers.A && ipv4 !== undefined) {
    return [{ type: 'A', data: numberedAddress(ipv4, Number(number)), ttl }];
  }
  if (question.type === typeNumbers.AAAA && ipv6 !== undefined) {
    return [{ type: 'AAAA', data: numberedAddress(ipv6, Number(number)), ttl }];
  }
  return [];
}

/** The `number`th address after `base`: what a numbered name resolves to. */
export function numberedAddress(base: string, number: number): string {
  const bytes = addressBytes(base);
  let carry = number;
  for (let i = bytes.length - 1; i >= 0 && carry > 0; i--) {
    const sum = (bytes[i] ?? 0) + (carry % 256);
    bytes[i] = sum & 0xff;
    carry = Math.floor(carry / 256) + (sum >> 8);
  }
  return addressText(bytes);
}

/** dns-packet writes no compression; the name that was asked becomes a pointer, as servers do. */
function encodeRecord(record: RecordSpec, hasQuestion: boolean, question: Question): Uint8Array {
  const isAsked = record.name === undefined && hasQuestion;
  const name = isAsked ? '.' : (record.name ?? question.sentName);
  const { type, data, ttl = 60 } = record;
  const answer = { name, type, class: 'IN', ttl, data } as Answer;
  const bytes = encode({ type: 'response', answers: [answer] }).subarray(headerBytes);
  return isAsked ? concatBytes([Uint8Array.of(0xc0, headerBytes), bytes.subarray(1)]) : bytes;
}

function withId(bytes: Uint8Array, id: number): Uint8Array {
  bytes[0] = id >> 8;
  bytes[1] = id & 0xff;
  return bytes;
}
