// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  labels,
  long,
  message,
  name,
  opt,
  pointer,
  question,
  record,
  word,
} from '../../test/dns-message.ts';
import { trapped } from '../../test/guarded-bytes.ts';
import {
  a,
  aaaa,
  addressesOf,
  asked,
  checkCut,
  checkLearned,
  cname,
  example,
  key,
  type Learned,
  nowhere,
  parse,
  reply,
  viewOf,
  www,
} from '../../test/replies.ts';
import { parseReply, ReplyView, replyOk } from './reply.ts';

const learned: readonly Learned[] = [
  ['one address', reply({ answer: [a(www)] }), ['192.0.2.1 300']],
  ['uncompressed', reply({ answer: [a(name(asked))] }), ['192.0.2.1 300']],
  ['other case', reply({ answer: [a(name('WWW.eXample.COM'))] }), ['192.0.2.1 300']],
  [
    'label and pointer',
    reply({ answer: [a([3, ...[87, 119, 119], ...example])] }),
    ['192.0.2.1 300'],
  ],
  ['no address', reply({}), []],
  ['TTL 0', reply({ answer: [a(www, 1, 0)] }), ['192.0.2.1 0']],
  ['TTL of 2^31 - 1', reply({ answer: [a(www, 1, 0x7fffffff)] }), ['192.0.2.1 2147483647']],
  ['TTL of 2^31 is 0', reply({ answer: [a(www, 1, 0x80000000)] }), ['192.0.2.1 0']],
  [
    'several, with authority and OPT',
    reply({
      answer: [a(www, 1), a(www, 2, 20)],
      authority: [record({ owner: example, type: 2, data: name('ns.example.com') })],
      additional: [a(name('ns.example.com'), 9), opt()],
    }),
    ['192.0.2.1 300', '192.0.2.2 20'],
  ],
  [
    'RRSIG beside',
    reply({ answer: [a(www), record({ owner: www, type: 46, data: [1, 2, 3] })] }),
    ['192.0.2.1 300'],
  ],
  [
    'a foreign record beside: only the true one',
    reply({ answer: [a(name(nowhere), 66), a(www)] }),
    ['192.0.2.1 300'],
  ],
  [
    'foreign records behind owners that are written out, or end in a pointer',
    reply({
      answer: [
        a(name(asked)),
        a(name(nowhere), 66),
        a([...labels('www').slice(0, -1), ...pointer(16)], 2),
        a([...labels('poison').slice(0, -1), ...pointer(16)], 67),
      ],
    }),
    ['192.0.2.1 300', '192.0.2.2 300'],
  ],
  ['trailing octets', Uint8Array.from([...reply({ answer: [a(www)] }), 1, 2]), ['192.0.2.1 300']],
  ['no RA, AA', reply({ flags: 0x8400, answer: [a(www)] }), ['192.0.2.1 300']],
];

test('control replies are learned', () => {
  checkLearned(learned);
});

test('AAAA and ANY', () => {
  const view = new ReplyView(key);
  const address = [0x20, 1, 13, 0xb8, 0, 0, 0, 0, 0, 7];
  const six = message({
    flags: 0x8180,
    question: question(asked, 28),
    answer: [aaaa(www, address), a(www)],
  });
  assert.equal(parse(six, view, viewOf(asked, 28)), replyOk);
  assert.deepEqual(addressesOf(view), ['20010db8000000000000000000000007 300']);
  assert.equal(view.unrelated, 1);
  const any = message({
    flags: 0x8180,
    question: question(asked, 255),
    answer: [aaaa(www, address), a(www)],
  });
  assert.equal(parse(any, view, viewOf(asked, 255)), replyOk);
  assert.deepEqual(addressesOf(view), ['20010db8000000000000000000000007 300', '192.0.2.1 300']);
});

test('a v4-mapped AAAA opens no IPv4 address', () => {
  const view = new ReplyView(key);
  const mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 96, 0, 1];
  const bytes = message({
    flags: 0x8180,
    question: question(asked, 28),
    answer: [aaaa(www, mapped)],
  });
  assert.equal(parse(bytes, view, viewOf(asked, 28)), replyOk);
  assert.deepEqual([view.addressCount, view.mapped], [0, 1]);
});

test('address hints of an HTTPS record teach nothing (RFC 9460 section 7.3)', () => {
  const view = new ReplyView(key);
  const ipv4hint = [...word(4), ...word(4), 192, 0, 2, 1];
  const https = record({ owner: www, type: 65, data: [...word(1), 0, ...ipv4hint] });
  for (const type of [1, 65, 255]) {
    const bytes = message({
      flags: 0x8180,
      question: question(asked, type),
      answer: [https],
      additional: [a(www)],
    });
    assert.equal(parse(bytes, view, viewOf(asked, type)), replyOk);
    assert.deepEqual([view.addressCount, view.unrelated], [0, 0], `type ${type}`);
  }
});

test('pointers: 16 hops are followed, 17 are not', () => {
  // TXT data holds a ladder of pointers, each to the one before.
  const ladder = (steps: number): Uint8Array => {
    const at = 33 + 2 + 10;
    const data = Array.from({ length: steps }, (_, i) =>
      pointer(i === 0 ? 12 : at + (i - 1) * 2),
    ).flat();
    return reply({
      answer: [record({ owner: www, type: 16, data }), a(pointer(at + (steps - 1) * 2))],
    });
  };
  const view = new ReplyView(key);
  assert.equal(parse(ladder(15), view), replyOk);
  assert.equal(view.addressCount, 1);
  assert.equal(parse(ladder(16), view), replyOk);
  assert.deepEqual([view.addressCount, view.unrelated], [0, 1]);
});

test('at most 256 addresses, the rest is counted', () => {
  const view = new ReplyView(key);
  const answer = Array.from({ length: 300 }, (_, i) => a(www, i & 255));
  assert.equal(parse(reply({ answer }), view), replyOk);
  assert.deepEqual([view.addressCount, view.skipped], [256, 44]);
});

test('a reply cut anywhere teaches nothing', () => {
  checkCut(learned.filter(([what]) => what !== 'trailing octets'));
});

test('sections and OPT are located for truncation', () => {
  const view = new ReplyView(key);
  const bytes = reply({
    answer: [a(www)],
    additional: [a(name('x.test')), opt(1232, 0, 0, [0, 3, 0, 0])],
  });
  assert.equal(parse(bytes, view), replyOk);
  assert.deepEqual([view.questionEnd, view.messageEnd], [33, bytes.length]);
  assert.deepEqual([view.optOffset, view.optLength], [bytes.length - 15, 15]);
});

test('a TSIG or SIG(0) is seen', () => {
  const view = new ReplyView(key);
  for (const [type, want] of [
    [250, true],
    [24, true],
    [1, false],
  ] as const) {
    const data = type === 1 ? [1, 2, 3, 4] : [];
    parse(reply({ additional: [opt(), record({ owner: [0], type, data })] }), view);
    assert.equal(view.isSigned, want, String(type));
  }
  parse(reply({ answer: [record({ owner: [0], type: 24, data: [] })] }), view);
  assert.equal(view.isSigned, false, 'SIG records of an answer sign something else');
});

test('work on hostile replies is bounded', () => {
  // Names of 255 octets, owners that differ in their first label only, pointers to long tails.
  const tail = labels('a'.repeat(63), 'b'.repeat(63), 'c'.repeat(63), 'd'.repeat(59));
  const asking = viewOf(
    `x.${'a'.repeat(63)}.${'b'.repeat(63)}.${'c'.repeat(63)}.${'d'.repeat(59)}`,
  );
  const q = [1, 120, ...tail, 0, 1, 0, 1];
  const owner = [1, 120, ...pointer(14)];
  const hostile: [string, Uint8Array][] = [
    [
      'addresses',
      message({ flags: 0x8180, question: q, answer: Array.from({ length: 2000 }, () => a(owner)) }),
    ],
    [
      'aliases',
      message({
        flags: 0x8180,
        question: q,
        answer: Array.from({ length: 2000 }, (_, i) =>
          cname([1, 65 + (i % 16), ...pointer(14)], [1, 66 + (i % 16), ...pointer(14)]),
        ),
      }),
    ],
    [
      'empty records',
      message({
        flags: 0x8180,
        question: q,
        answer: Array.from({ length: 5000 }, () => record({ owner: [0], type: 16, data: [] })),
      }),
    ],
    [
      'pointers',
      Uint8Array.from([
        ...word(1),
        ...word(0x8180),
        ...word(1),
        ...word(4000),
        0,
        0,
        0,
        0,
        ...q,
        ...Array.from({ length: 4000 }, (_, i) => [
          ...pointer(12),
          ...word(5),
          ...word(1),
          ...long(0),
          ...word(2),
          ...pointer(Math.min(0x3fff, 270 + i * 14)),
        ]).flat(),
      ]),
    ],
  ];
  for (const [what, bytes] of hostile) {
    const guarded = trapped(bytes);
    parseReply(new ReplyView(key), guarded.bytes, guarded.start, guarded.end, asking);
    assert.ok(guarded.reads() < 256 * 300 + bytes.length * 3, `${what}: ${guarded.reads()} reads`);
  }
});
