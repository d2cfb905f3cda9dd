// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { labels, message, name, opt, query, question, record } from '../../test/dns-message.ts';
import {
  edeBlocked,
  edeNone,
  rcodeFormErr,
  rcodeNotImp,
  rcodeNxDomain,
  rcodeRefused,
  rcodeServFail,
} from './constants.ts';
import {
  idAt,
  setId,
  setKeepalive,
  truncateReply,
  writeReply,
  writtenReplyBytesMax,
} from './edit.ts';
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
      'the opcode is copied, and the question that the message has',
      message({ flags: 0x2800, question: question('a.b') }),
      4,
      edeNone,
      message({ flags: 0xa804, question: question('a.b') }),
    ],
  ];
  for (const [what, bytes, rcode, code, want] of table) {
    assert.deepEqual(written(bytes, rcode, code), want, what);
  }
});

test('a query with an OPT is refused with an OPT (RFC 6891 section 6.1.1)', () => {
  const ixfr = question('a.b', 251);
  const soa = record({ owner: name('a.b'), type: 6, data: [0] });
  const additional = [opt(4096, 0x8000)];
  const sig0 = record({ owner: [0], type: 24, data: [] });
  const ours = [opt(1232, 0x8000)];
  const asked = { flags: 0x0100, question: question('a.b') };
  const two = { ...asked, questions: 2, question: [...asked.question, ...question('c.d')] };
  const table: [string, Uint8Array, Uint8Array][] = [
    [
      'AXFR',
      query('a.b', 252, additional),
      message({ flags: 0x8184, question: question('a.b', 252), additional: ours }),
    ],
    [
      'IXFR',
      message({ flags: 0, question: ixfr, authority: [soa], additional }),
      message({ flags: 0x8004, question: ixfr, additional: ours }),
    ],
    [
      'class CH',
      message({ ...asked, question: question('version.bind', 16, 3), additional }),
      message({ flags: 0x8184, question: question('version.bind', 16, 3), additional: ours }),
    ],
    [
      'UPDATE',
      message({ flags: 0x2800, question: question('a.b', 6), authority: [soa, soa], additional }),
      message({ flags: 0xa804, question: question('a.b', 6), additional: ours }),
    ],
    [
      'no question',
      message({ flags: 0x0100, additional }),
      message({ flags: 0x8184, additional: ours }),
    ],
    [
      'two questions',
      message({ ...two, additional }),
      message({ flags: 0x8184, additional: ours }),
    ],
    [
      'three additional records, the OPT last',
      message({ ...asked, additional: [sig0, sig0, ...additional] }),
      message({ ...asked, flags: 0x8184, additional: ours }),
    ],
    [
      'the OPT behind a SIG(0)',
      message({ ...asked, additional: [sig0, ...additional] }),
      message({ ...asked, flags: 0x8184, additional: ours }),
    ],
    [
      'an OPT that is cut',
      message({ ...asked, additional }).slice(0, -1),
      message({ ...asked, flags: 0x8184 }),
    ],
    [
      'an OPT in the answer section is none',
      message({ ...asked, answer: additional }),
      message({ ...asked, flags: 0x8184 }),
    ],
    [
      'an OPT behind more records than are looked at',
      message({ ...asked, authority: Array.from({ length: 63 }, () => sig0), additional }),
      message({ ...asked, flags: 0x8184 }),
    ],
    [
      'an OPT behind as many records as are looked at',
      message({ ...asked, authority: Array.from({ length: 62 }, () => sig0), additional }),
      message({ ...asked, flags: 0x8184, additional: ours }),
    ],
  ];
  const rcode = 4;
  for (const [what, bytes, want] of table) {
    assert.deepEqual(written(bytes, rcode, edeNone), want, what);
  }
});

test('an EDNS version over 0 gets BADVERS with version 0 (RFC 6891 section 6.1.3)', () => {
  const asked = { flags: 0x0100, question: question('a.b') };
  for (const version of [1, 255]) {
    const additional = [opt(4096, 0x8000, 7, [0, 3, 0, 0], version)];
    const badVersion = [opt(1232, 0x8000, 1)];
    const refused = { ...asked, flags: 0x8180, additional: badVersion };
    for (const rcode of [rcodeRefused, rcodeNxDomain, rcodeServFail]) {
      const got = written(message({ ...asked, additional }), rcode, edeBlocked);
      assert.deepEqual(got, message(refused));
    }
    const chaos = question('version.bind', 16, 3);
    assert.deepEqual(
      written(message({ ...asked, question: chaos, additional }), rcodeNotImp, edeNone),
      message({ ...refused, question: chaos }),
    );
    assert.deepEqual(
      written(message({ ...asked, additional: [...additional, opt()] }), rcodeFormErr, edeNone),
      message({ ...asked, flags: 0x8181, additional: [opt(1232, 0x8000)] }),
    );
  }
  // The version of one query is not that of the next.
  const view = new QueryView(key);
  for (const [version, bits] of [
    [1, 16],
    [0, 5],
  ] as const) {
    const bytes = query('a.b', 1, [opt(1232, 0, 0, [], version)]);
    parseQuery(view, bytes, 0, bytes.length);
    const out = new Uint8Array(writtenReplyBytesMax);
    const length = writeReply(out, 0, out.length, bytes, 0, view, rcodeRefused, edeNone);
    assert.equal((out[3]! & 15) | (out[length - 6]! << 4), bits);
  }
});

test('a reply of our own has no cookie, as one of a server without cookies', () => {
  for (const octets of [7, 8, 24]) {
    const cookie = [0, 10, 0, octets, ...Array<number>(octets).fill(1)];
    const bytes = query('a.b', 1, [opt(1232, 0, 0, cookie)]);
    const want = message({ flags: 0x8185, question: question('a.b'), additional: [opt()] });
    assert.deepEqual(written(bytes, rcodeRefused, edeNone), want);
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
  const withEdns = new QueryView(key);
  const sentEdns = query('www.example.com', 1, [opt(4096, 0x8000)]);
  parseQuery(withEdns, sentEdns, 0, sentEdns.length);
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
    ['an error without question', message({ flags: 0x8185 }), message({ flags: 0x8385 })],
    [
      'an error without question, with OPT',
      message({ flags: 0x8181, authority: answer, additional: [opt(700)] }),
      message({ flags: 0x8381, additional: [opt(700)] }),
    ],
  ];
  for (const [what, bytes, want] of table) {
    const padded = Uint8Array.from([1, 2, ...bytes]);
    parseReply(view, padded, 2, padded.length, asking);
    const length = truncateReply(padded, 2, padded.length, view, asking);
    assert.deepEqual(padded.slice(2, 2 + length), want, what);
  }
  // The OPT lay behind the end of what was received, or the server sent none.
  for (const bytes of [message({ ...base, additional: [opt()] }).slice(0, -1), message(base)]) {
    parseReply(view, bytes, 0, bytes.length, withEdns);
    const length = truncateReply(bytes, 0, bytes.length, view, withEdns);
    const want = message({ ...base, flags: 0x8380, answer: [], additional: [opt(1232, 0x8000)] });
    assert.deepEqual(bytes.slice(0, length), want);
  }
  const bare = message({ ...base, answer: [] });
  parseReply(view, bare, 0, bare.length, withEdns);
  assert.equal(truncateReply(bare, 0, bare.length, view, withEdns), bare.length, 'no room for one');
});

test("the timeout of edns-tcp-keepalive is ours, not the server's", () => {
  const view = new ReplyView(key);
  const asking = new QueryView(key);
  const sent = query('a.b');
  parseQuery(asking, sent, 0, sent.length);
  const other = [0, 3, 0, 3, 0, 11, 0];
  const keepalive = (timeout: number): number[] => [0, 11, 0, 2, timeout >> 8, timeout & 255];
  const of = (options: number[], ...more: number[][]): Uint8Array =>
    message({
      flags: 0x8180,
      question: question('a.b'),
      additional: [opt(1232, 0, 0, options), ...more],
    });
  const tsig = record({ owner: [0], type: 250, data: [] });
  const table: [string, Uint8Array, Uint8Array, boolean][] = [
    ['alone', of(keepalive(200)), of(keepalive(0x164)), true],
    [
      'among others',
      of([...other, ...keepalive(200), ...other]),
      of([...other, ...keepalive(0x164), ...other]),
      true,
    ],
    [
      'twice',
      of([...keepalive(1), ...keepalive(2)]),
      of([...keepalive(0x164), ...keepalive(0x164)]),
      true,
    ],
    ['without a timeout', of([0, 11, 0, 0]), of([0, 11, 0, 0]), false],
    ['of another length', of([0, 11, 0, 3, 1, 2, 3]), of([0, 11, 0, 3, 1, 2, 3]), false],
    ['longer than the OPT', of([0, 11, 0, 2, 1]), of([0, 11, 0, 2, 1]), false],
    [
      'behind an option that is too long',
      of([0, 3, 0, 99, ...keepalive(9)]),
      of([0, 3, 0, 99, ...keepalive(9)]),
      false,
    ],
    ['none', of(other), of(other), false],
    [
      'no OPT',
      message({ flags: 0x8180, question: question('a.b') }),
      message({ flags: 0x8180, question: question('a.b') }),
      false,
    ],
    ['signed', of(keepalive(200), tsig), of(keepalive(200), tsig), false],
  ];
  for (const [what, bytes, want, isSet] of table) {
    const padded = Uint8Array.from([1, 2, ...bytes, 3]);
    parseReply(view, padded, 2, padded.length - 1, asking);
    assert.equal(setKeepalive(padded, 2, view, 0x164), isSet, what);
    assert.deepEqual(padded, Uint8Array.from([1, 2, ...want, 3]), what);
  }
});
