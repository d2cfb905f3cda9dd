// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { labels, message, name, opt, query, question, record } from '../../test/dns-message.ts';
import { edeBlocked, edeNone, rcodeFormErr, rcodeNxDomain, rcodeRefused } from './constants.ts';
import { idAt, setId, truncateReply, writeReply, writtenReplyBytesMax } from './edit.ts';
import { parseQuery, QueryView } from './query.ts';
import { parseReply, ReplyView } from './reply.ts';

const key = { low: 1, high: 2 };

function written(bytes: Uint8Array, rcode: number, ede: number): Uint8Array {
  const view = new QueryView(key);
  parseQuery(view, bytes, 0, bytes.length);
  const out = new Uint8Array(writtenReplyBytesMax + 2).fill(0xee);
  const length = writeReply(out, 1, out.length - 1, bytes, 0, view, rcode, ede);
  assert.deepEqual([out[0], out[length + 1]], [0xee, 0xee], 'nothing else is touched');
  return out.slice(1, 1 + length);
}

test('ids', () => {
  const bytes = Uint8Array.from([9, 0x12, 0x34, 9]);
  assert.equal(idAt(bytes, 1), 0x1234);
  setId(bytes, 1, 0xfffe);
  assert.deepEqual([...bytes], [9, 0xff, 0xfe, 9]);
});

test('replies of our own', () => {
  const ede = [0, 15, 0, 2, 0, edeBlocked];
  const table: [string, Uint8Array, number, number, Uint8Array][] = [
    [
      'REFUSED echoes the question as sent',
      query('wWw.Example.com', 28),
      rcodeRefused,
      edeBlocked,
      message({ flags: 0x8185, question: question('wWw.Example.com', 28) }),
    ],
    [
      'an extended error only for who speaks EDNS',
      query('a.b', 1, [opt(4096, 0x8000)]),
      rcodeNxDomain,
      edeBlocked,
      message({
        flags: 0x8183,
        question: question('a.b'),
        additional: [opt(1232, 0x8000, 0, ede)],
      }),
    ],
    [
      'OPT without an error',
      query('a.b', 1, [opt()]),
      rcodeRefused,
      edeNone,
      message({ flags: 0x8185, question: question('a.b'), additional: [opt()] }),
    ],
    [
      'RD is copied, RA follows it; CD is copied, the rest is not',
      message({ flags: 0x0630, question: question('a.b') }),
      rcodeRefused,
      edeNone,
      message({ flags: 0x8015, question: question('a.b') }),
    ],
    [
      'a header for what has no readable question',
      message({ flags: 0x0100, question: [0xc0, 12, 0, 1, 0, 1] }),
      rcodeFormErr,
      edeBlocked,
      message({ flags: 0x8181 }),
    ],
    [
      'the opcode is copied',
      message({ flags: 0x2800, question: question('a.b') }),
      4,
      edeNone,
      message({ flags: 0xa804 }),
    ],
  ];
  for (const [what, bytes, rcode, code, want] of table) {
    assert.deepEqual(written(bytes, rcode, code), want, what);
  }
});

test('a reply may be written over its query, or beside it in one buffer', () => {
  const bytes = query('www.example.com', 1, [
    opt(1232, 0, 0, [0, 3, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
  ]);
  const want = written(bytes, rcodeRefused, edeBlocked);
  for (const [from, to] of [
    [0, 0],
    [0, 5],
    [5, 0],
    [0, 100],
  ] as const) {
    const buffer = new Uint8Array(400);
    buffer.set(bytes, from);
    const view = new QueryView(key);
    parseQuery(view, buffer, from, from + bytes.length);
    const length = writeReply(
      buffer,
      to,
      buffer.length,
      buffer,
      from,
      view,
      rcodeRefused,
      edeBlocked,
    );
    assert.deepEqual(buffer.slice(to, to + length), want);
  }
});

test('a reply that does not fit is not written', () => {
  const bytes = query('www.example.com', 1, [opt()]);
  const view = new QueryView(key);
  parseQuery(view, bytes, 0, bytes.length);
  const out = new Uint8Array(100);
  const length = writeReply(out, 0, 100, bytes, 0, view, rcodeRefused, edeBlocked);
  assert.equal(writeReply(out, 0, length, bytes, 0, view, rcodeRefused, edeBlocked), length);
  out.fill(0);
  assert.equal(writeReply(out, 0, length - 1, bytes, 0, view, rcodeRefused, edeBlocked), 0);
  assert.deepEqual(out, new Uint8Array(100));
});

test('the largest reply has the size that is promised', () => {
  const long = labels('a'.repeat(63), 'b'.repeat(63), 'c'.repeat(63), 'd'.repeat(61));
  const bytes = message({ flags: 0x0100, question: [...long, 0, 1, 0, 1], additional: [opt()] });
  assert.equal(written(bytes, rcodeRefused, edeBlocked).length, writtenReplyBytesMax);
});

test('truncation keeps header, question and OPT', () => {
  const view = new ReplyView(key);
  const asking = new QueryView(key);
  const sent = query('www.example.com');
  parseQuery(asking, sent, 0, sent.length);
  const answer = [record({ owner: name('www.example.com'), type: 1, data: [1, 2, 3, 4] })];
  const base = { flags: 0x8180, question: question('www.example.com'), answer };
  const table: [string, Uint8Array, Uint8Array][] = [
    ['no OPT', message(base), message({ ...base, flags: 0x8380, answer: [] })],
    [
      'OPT last',
      message({ ...base, additional: [...answer, opt(700)] }),
      message({ ...base, flags: 0x8380, answer: [], additional: [opt(700)] }),
    ],
    [
      'OPT first',
      message({ ...base, additional: [opt(700, 0, 0, [0, 3, 0, 1, 7]), ...answer] }),
      message({
        ...base,
        flags: 0x8380,
        answer: [],
        additional: [opt(700, 0, 0, [0, 3, 0, 1, 7])],
      }),
    ],
    [
      'not our question',
      message({ flags: 0x8180, question: question('x.y') }),
      message({ flags: 0x8380 }),
    ],
  ];
  for (const [what, bytes, want] of table) {
    const padded = Uint8Array.from([1, 2, ...bytes]);
    parseReply(view, padded, 2, padded.length, asking);
    const length = truncateReply(padded, 2, view);
    assert.deepEqual(padded.slice(2, 2 + length), want, what);
  }
});
