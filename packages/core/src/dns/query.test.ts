// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  labels,
  message,
  name,
  opt,
  query,
  question,
  record,
  word,
} from '../../test/dns-message.ts';
import { trapped } from '../../test/guarded-bytes.ts';
import { nameToText } from './name.ts';
import {
  loadName,
  parseQuery,
  type QueryStatus,
  QueryView,
  queryDrop,
  queryFormErr,
  queryNotImp,
  queryOk,
} from './query.ts';

const key = { low: 1, high: 2 };
const rd = 0x0100;

function parse(bytes: Uint8Array, view = new QueryView(key)): QueryStatus {
  const guarded = trapped(bytes);
  const status = parseQuery(view, guarded.bytes, guarded.start, guarded.end);
  // Threat T1: work is linear, and far below the size for what is no name.
  assert.ok(guarded.reads() <= bytes.length * 2 + 32, `${guarded.reads()} reads`);
  return status;
}

const tsig = record({ owner: name('key.example'), type: 250, class: 255, ttl: 0, data: [1, 2, 3] });
/** All of a TSIG but its owner. */
const tsigFields = record({ owner: [], type: 250, class: 255, ttl: 0, data: [1, 2, 3] });
const pointer = (to: number): number[] => [0xc0, to];
const long = [
  labels('a'.repeat(63), 'b'.repeat(63), 'c'.repeat(63), 'd'.repeat(61)),
  labels(...'x'.repeat(127)),
];

const valid: [string, Uint8Array][] = [
  ['A', query('www.Example.com')],
  ['AAAA', query('www.example.com', 28)],
  ['root', message({ flags: rd, question: [0, ...word(2), ...word(1)] })],
  ['OPT', query('www.example.com', 1, [opt(4096, 0x8000)])],
  ['OPT with options', query('a.b', 1, [opt(1232, 0, 0, [0, 10, 0, 2, 1, 2])])],
  ['TSIG', query('a.b', 1, [tsig])],
  ['OPT and TSIG', query('a.b', 1, [opt(), tsig])],
  [
    'TSIG, its owner compressed',
    query('a.b', 1, [opt(), [3, 107, 101, 121, ...pointer(14), ...tsigFields]]),
  ],
  ['OPT, its owner a pointer to the root', query('a.b', 1, [[...pointer(16), ...opt().slice(1)]])],
  ['HTTPS', query('a.b', 65)],
  ['ANY', query('a.b', 255)],
  ['no RD', message({ flags: 0, question: question('a.b') })],
  ['flags of no meaning', message({ flags: 0x07ff, question: question('a.b') })],
  ...long.map((octets, i): [string, Uint8Array] => [
    `255 octets ${i}`,
    message({ flags: rd, question: [...octets, ...word(1), ...word(1)] }),
  ]),
  [
    'odd octets',
    message({ flags: rd, question: [...labels('a.b', [0, 255], ' ', '\\'), 0, 1, 0, 1] }),
  ],
];

test('valid queries', () => {
  for (const [what, bytes] of valid) assert.equal(parse(bytes), queryOk, what);
});

test('a query is read field by field', () => {
  const view = new QueryView(key);
  const bytes = query('WWW.Example.com', 28, [opt(4096, 0x8000), tsig]);
  assert.equal(parse(Uint8Array.from([...bytes, 1, 2, 3]), view), queryOk);
  assert.equal(nameToText(view.name), 'www.example.com.');
  assert.equal(view.nameLength, 17);
  assert.equal(view.labelCount, 3);
  assert.deepEqual([...view.labelOffsets.slice(0, 3)], [0, 4, 12]);
  assert.deepEqual([view.id, view.flags, view.qtype, view.qclass], [0x1234, rd, 28, 1]);
  assert.equal(view.questionEnd, 12 + 17 + 4);
  assert.equal(view.messageEnd, bytes.length, 'trailing octets are not part of the message');
  assert.deepEqual([view.hasEdns, view.udpPayloadSize, view.isDnssecOk], [true, 4096, true]);
  assert.equal(view.hasTsig, true);
  assert.equal(view.isPlain, true);
  assert.equal(parse(query('a b'), view), queryOk);
  assert.deepEqual([view.hasEdns, view.udpPayloadSize, view.isDnssecOk], [false, 512, false]);
  assert.deepEqual([view.hasTsig, view.isPlain], [false, false]);
  assert.equal(parse(query('a', 1, [opt(0)]), view), queryOk);
  assert.equal(view.udpPayloadSize, 512);
});

test('case changes neither the name nor its hash, a dot inside a label does', () => {
  const [a, b, c] = [new QueryView(key), new QueryView(key), new QueryView(key)];
  parse(query('www.example.com'), a);
  parse(query('wWw.eXAMPLE.cOM'), b);
  parse(message({ flags: rd, question: [...labels('www.example', 'com'), 0, 1, 0, 1] }), c);
  assert.equal(a.hash, b.hash);
  assert.deepEqual(a.name, b.name);
  assert.notEqual(a.hash, c.hash);
  assert.equal(c.isPlain, false);
  const d = new QueryView({ low: 3, high: 4 });
  parse(query('www.example.com'), d);
  assert.notEqual(a.hash, d.hash, 'the hash is keyed');
});

test('evil packets', () => {
  const q = question('ok.com');
  const table: [string, Uint8Array, QueryStatus][] = [
    ['empty', new Uint8Array(0), queryDrop],
    ['11 octets', new Uint8Array(11), queryDrop],
    ['a reply', message({ flags: 0x8180, question: q }), queryDrop],
    ['a reply that is an UPDATE', message({ flags: 0xa800, question: q }), queryDrop],
    ['header alone', new Uint8Array(12), queryFormErr],
    ['IQUERY', message({ flags: 0x0800, question: q }), queryNotImp],
    ['NOTIFY', message({ flags: 0x2000, question: q }), queryNotImp],
    ['UPDATE', message({ flags: 0x2800, question: q }), queryNotImp],
    ['opcode 15', message({ flags: 0x7800, question: q }), queryNotImp],
    ['no question', message({ flags: rd }), queryFormErr],
    ['QD 0 with a question', message({ flags: rd, question: q, questions: 0 }), queryFormErr],
    [
      'two questions',
      message({ flags: rd, question: [...q, ...question('evil.com')], questions: 2 }),
      queryFormErr,
    ],
    ['QD 65535', message({ flags: rd, question: q, questions: 65535 }), queryFormErr],
    ['AN 1', message({ flags: rd, question: q, counts: [1, 0, 0] }), queryFormErr],
    ['NS 1', message({ flags: rd, question: q, counts: [0, 1, 0] }), queryFormErr],
    ['AR 1 without record', message({ flags: rd, question: q, counts: [0, 0, 1] }), queryFormErr],
    ['AR 65535', message({ flags: rd, question: q, counts: [0, 0, 65535] }), queryFormErr],
    ['two OPT', query('ok.com', 1, [opt(), opt()]), queryFormErr],
    ['three records', query('ok.com', 1, [opt(), tsig, tsig]), queryFormErr],
    ['TSIG before OPT', query('ok.com', 1, [tsig, opt()]), queryFormErr],
    ['TSIG owned by itself', query('ok.com', 1, [[...pointer(24), ...tsigFields]]), queryFormErr],
    ['TSIG owned forwards', query('ok.com', 1, [[...pointer(26), ...tsigFields]]), queryFormErr],
    [
      'TSIG owned by the header',
      query('ok.com', 1, [[...pointer(4), ...tsigFields]]),
      queryFormErr,
    ],
    [
      'OPT owned by the question',
      query('ok.com', 1, [[...pointer(12), ...opt().slice(1)]]),
      queryFormErr,
    ],
    [
      'A in the additional section',
      query('ok.com', 1, [record({ owner: [0], type: 1, data: [1, 2, 3, 4] })]),
      queryFormErr,
    ],
    [
      'OPT with a name',
      query('ok.com', 1, [record({ owner: name('a'), type: 41, data: [] })]),
      queryFormErr,
    ],
    [
      'OPT with a pointer',
      query('ok.com', 1, [record({ owner: [0xc0, 12], type: 41, data: [] })]),
      queryFormErr,
    ],
    [
      'OPT longer than the message',
      query('ok.com', 1, [record({ owner: [0], type: 41, data: [1], dataLength: 2 })]),
      queryFormErr,
    ],
    ['pointer to itself', message({ flags: rd, question: [0xc0, 12, 0, 1, 0, 1] }), queryFormErr],
    [
      'pointer to the header',
      message({ flags: rd, question: [0xc0, 0, 0, 1, 0, 1] }),
      queryFormErr,
    ],
    ['forward pointer', message({ flags: rd, question: [0xc0, 18, 0, 1, 0, 1, 0] }), queryFormErr],
    [
      'label then pointer',
      message({ flags: rd, question: [1, 97, 0xc0, 12, 0, 1, 0, 1] }),
      queryFormErr,
    ],
    [
      'label of 64',
      message({
        flags: rd,
        question: [64, ...Array.from({ length: 64 }, () => 97), 0, 0, 1, 0, 1],
      }),
      queryFormErr,
    ],
    ['extended label', message({ flags: rd, question: [0x41, 97, 0, 0, 1, 0, 1] }), queryFormErr],
    ['reserved label', message({ flags: rd, question: [0x80, 97, 0, 0, 1, 0, 1] }), queryFormErr],
    [
      '256 octets',
      message({
        flags: rd,
        question: [
          ...labels('a'.repeat(63), 'b'.repeat(63), 'c'.repeat(63), 'd'.repeat(62)),
          0,
          1,
          0,
          1,
        ],
      }),
      queryFormErr,
    ],
    [
      '128 labels',
      message({ flags: rd, question: [...labels(...'x'.repeat(128)), 0, 1, 0, 1] }),
      queryFormErr,
    ],
    ['class CH', message({ flags: rd, question: question('version.bind', 16, 3) }), queryNotImp],
    ['class ANY', message({ flags: rd, question: question('a.b', 1, 255) }), queryNotImp],
    ['AXFR', query('a.b', 252), queryNotImp],
    ['IXFR without authority', query('a.b', 251), queryNotImp],
    [
      'IXFR',
      message({
        flags: 0,
        question: question('a.b', 251),
        authority: [record({ owner: name('a.b'), type: 6, data: [0] })],
      }),
      queryNotImp,
    ],
  ];
  for (const [what, bytes, want] of table)
    assert.equal(parse(bytes, new QueryView(key)), want, what);
});

test('64 KiB of pointers cost nothing', () => {
  const bytes = new Uint8Array(65535).fill(0xc0);
  bytes.set([0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 255, 255]);
  const guarded = trapped(bytes);
  assert.equal(
    parseQuery(new QueryView(key), guarded.bytes, guarded.start, guarded.end),
    queryFormErr,
  );
  bytes.set([0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 2]);
  assert.equal(
    parseQuery(new QueryView(key), guarded.bytes, guarded.start, guarded.end),
    queryFormErr,
  );
  assert.ok(guarded.reads() < 64);
});

test('a query cut anywhere is no query', () => {
  for (const [what, bytes] of valid) {
    for (let length = 0; length < bytes.length; length++) {
      const status = parse(bytes.slice(0, length));
      assert.equal(status, length < 12 ? queryDrop : queryFormErr, `${what} cut at ${length}`);
    }
  }
});

test('the question is kept where it can be echoed', () => {
  const view = new QueryView(key);
  parse(message({ flags: rd, question: question('a.b', 1, 3) }), view);
  assert.equal(view.questionEnd, 12 + 5 + 4);
  parse(message({ flags: rd, question: [0xc0, 12, 0, 1, 0, 1] }), view);
  assert.equal(view.questionEnd, 0);
  parse(new Uint8Array(3), view);
  assert.equal(view.questionEnd, 0);
});

test('a name from a cache is loaded like a question', () => {
  const [asked, loaded] = [new QueryView(key), new QueryView(key)];
  parse(query('www.example.com'), asked);
  const wire = Uint8Array.from([9, ...name('www.example.com'), 9]);
  assert.equal(loadName(loaded, wire, 1, wire.length - 1), true);
  for (const field of ['name', 'codes', 'nameLength', 'labelCount', 'hash', 'isPlain'] as const) {
    assert.deepEqual(loaded[field], asked[field], field);
  }
  assert.equal(loadName(loaded, wire, 1, wire.length - 2), false);
  assert.equal(loadName(loaded, Uint8Array.from([0xc0, 0]), 0, 2), false);
});
