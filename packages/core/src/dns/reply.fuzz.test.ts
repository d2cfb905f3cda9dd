// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { message, name, opt, pointer, query, question, record } from '../../test/dns-message.ts';
import { surrounded } from '../../test/guarded-bytes.ts';
import { parseQuery, QueryView } from './query.ts';
import { parseReply, ReplyView, replyOk } from './reply.ts';

const seed = 20251121;
const key = { low: 1, high: 2 };
const asking = new QueryView(key);
const asked = query('www.example.com');
parseQuery(asking, asked, 0, asked.length);

/** Few names, so that random records meet. */
const owners = [
  pointer(12),
  name('www.example.com'),
  name('b.test'),
  name('c.test'),
  pointer(16),
  [0],
];
const owner = fc.constantFrom(...owners);
const records = fc.oneof(
  fc
    .tuple(owner, fc.nat(255))
    .map(([of, last]) => record({ owner: of, type: 1, data: [192, 0, 2, last] })),
  fc.tuple(owner, owner).map(([of, to]) => record({ owner: of, type: 5, data: to })),
  fc.tuple(owner, owner).map(([of, to]) => record({ owner: of, type: 39, data: to })),
  fc
    .tuple(owner, fc.uint8Array({ maxLength: 20 }))
    .map(([of, data]) => record({ owner: of, type: 16, data: [...data] })),
);
const replies = fc
  .record({
    flags: fc.constantFrom(0x8180, 0x8180, 0x8180, 0x8185),
    hasQuestion: fc.constantFrom(true, true, true, false),
    answer: fc.array(records, { maxLength: 8 }),
    additional: fc.array(
      fc.constantFrom(opt(), record({ owner: [0], type: 1, data: [9, 9, 9, 9] })),
      { maxLength: 2 },
    ),
    changes: fc.array(fc.tuple(fc.nat(300), fc.nat(255)), { maxLength: 3 }),
    cut: fc.option(fc.nat(300), { nil: undefined }),
  })
  .map(({ flags, hasQuestion, answer, additional, changes, cut }) => {
    const bytes = message({
      flags,
      question: hasQuestion ? question('www.example.com') : [],
      answer,
      additional,
    });
    for (const [at, octet] of changes) if (at < bytes.length) bytes[at] = octet;
    return bytes.slice(0, cut);
  });

test('nothing outside of a reply matters', () => {
  const [first, second] = [new ReplyView(key), new ReplyView(key)];
  let learned = 0;
  const check = (bytes: Uint8Array): void => {
    const zeros = surrounded(bytes, 0);
    const ones = surrounded(bytes, 0xff, 3);
    const status = parseReply(first, zeros.bytes, zeros.start, zeros.end, asking);
    assert.equal(parseReply(second, ones.bytes, ones.start, ones.end, asking), status);
    const fields = [
      'addressCount',
      'cnameCount',
      'skipped',
      'unrelated',
      'questionEnd',
      'messageEnd',
      'optOffset',
      'optLength',
      'rcode',
    ] as const;
    for (const field of fields) assert.equal(first[field], second[field], field);
    assert.deepEqual(
      first.addresses.slice(0, first.addressCount * 16),
      second.addresses.slice(0, first.addressCount * 16),
    );
    assert.ok(first.messageEnd <= bytes.length);
    if (status === replyOk) learned += first.addressCount;
    else assert.equal(first.addressCount, 0);
  };
  fc.assert(fc.property(replies, check), { seed, numRuns: 20_000 });
  assert.ok(learned > 500, `the generator makes replies that are learned from: ${learned}`);
});

test('random octets teach nothing', () => {
  const view = new ReplyView(key);
  const check = (body: Uint8Array): void => {
    const bytes = Uint8Array.from([
      0,
      1,
      0x81,
      0x80,
      0,
      1,
      0,
      2,
      0,
      0,
      0,
      0,
      ...asked.slice(12),
      ...body,
    ]);
    const zeros = surrounded(bytes, 0xc0);
    parseReply(view, zeros.bytes, zeros.start, zeros.end, asking);
    assert.equal(view.addressCount, 0);
  };
  fc.assert(fc.property(fc.uint8Array({ maxLength: 120 }), check), { seed, numRuns: 10_000 });
});
