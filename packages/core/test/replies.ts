// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Replies to a question for A www.example.com, and what is learned of them. */

import assert from 'node:assert/strict';
import { parseQuery, QueryView, queryOk } from '../src/dns/query.ts';
import {
  parseReply,
  type ReplyStatus,
  ReplyView,
  replyForeign,
  replyMalformed,
  replyOk,
} from '../src/dns/reply.ts';
import { type MessageParts, message, pointer, query, question, record } from './dns-message.ts';
import { trapped } from './guarded-bytes.ts';

export const key = { low: 5, high: 6 } as const;
export const asked = 'www.example.com';
/** A name that was not asked for. */
export const nowhere = 'poison.test';
export const www: readonly number[] = pointer(12);
export const example: readonly number[] = pointer(16);

export function viewOf(text: string, type = 1): QueryView {
  const view = new QueryView(key);
  const bytes = query(text, type);
  assert.equal(parseQuery(view, bytes, 0, bytes.length), queryOk);
  return view;
}

export function a(owner: readonly number[], last = 1, ttl = 300): number[] {
  return record({ owner, type: 1, ttl, data: [192, 0, 2, last] });
}

export function aaaa(owner: readonly number[], octets: readonly number[]): number[] {
  const data = [
    ...octets.slice(0, 8),
    ...Array.from({ length: 16 - octets.length }, () => 0),
    ...octets.slice(8),
  ];
  return record({ owner, type: 28, data });
}

export function cname(owner: readonly number[], target: readonly number[], ttl = 300): number[] {
  return record({ owner, type: 5, ttl, data: target });
}

export function dname(owner: readonly number[], target: readonly number[], ttl = 300): number[] {
  return record({ owner, type: 39, ttl, data: target });
}

/** A reply to A www.example.com. The name begins at 12, "example.com" at 16, the answers at 33. */
export function reply(parts: Partial<MessageParts>): Uint8Array {
  return message({ flags: 0x8180, question: question(asked), ...parts });
}

export function parse(
  bytes: Uint8Array,
  view: ReplyView = new ReplyView(key),
  asking: QueryView = viewOf(asked),
): ReplyStatus {
  const guarded = trapped(bytes);
  const status = parseReply(view, guarded.bytes, guarded.start, guarded.end, asking);
  if (status !== replyOk) assert.equal(view.addressCount, 0);
  return status;
}

export function addressesOf(view: ReplyView): string[] {
  return Array.from({ length: view.addressCount }, (_, i) => {
    const octets = view.addresses.slice(i * 16, i * 16 + 16);
    const text =
      view.types[i] === 1 ? octets.slice(12).join('.') : Buffer.from(octets).toString('hex');
    return `${text} ${view.ttls[i]}`;
  });
}

/** A reply of which these addresses, each with its TTL, are learned. */
export type Learned = readonly [what: string, bytes: Uint8Array, addresses: readonly string[]];

export function checkLearned(learned: readonly Learned[]): void {
  const view = new ReplyView(key);
  for (const [what, bytes, want] of learned) {
    assert.equal(parse(bytes, view), replyOk, what);
    assert.deepEqual(addressesOf(view), want, what);
  }
}

/** Cuts each reply at every octet: nothing is learned of a part. */
export function checkCut(learned: readonly Learned[]): void {
  const view = new ReplyView(key);
  for (const [what, bytes] of learned) {
    for (let length = 0; length < bytes.length; length++) {
      const status = parse(bytes.slice(0, length), view);
      assert.equal(status, length < 33 ? replyForeign : replyMalformed, `${what} cut at ${length}`);
    }
  }
}

/** A reply with this status, of which nothing is learned. */
export type Poisoned = readonly [what: string, bytes: Uint8Array, status: ReplyStatus];

export function checkPoisoned(poisoned: readonly Poisoned[]): void {
  const view = new ReplyView(key);
  for (const [what, bytes, want] of poisoned) {
    assert.equal(parse(bytes, view), want, what);
    assert.deepEqual(addressesOf(view), [], what);
  }
}
