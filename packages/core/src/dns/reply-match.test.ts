// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import {
  type MessageParts,
  message,
  opt,
  query,
  question,
  record,
} from '../../test/dns-message.ts';
import { surrounded, trapped } from '../../test/guarded-bytes.ts';
import {
  matchErrorWithoutQuestion,
  matchExact,
  matchNone,
  matchOtherCase,
  matchReply,
  type ReplyMatch,
} from './reply-match.ts';

const seed = 20251121;
const asked = 'wWw.eXample.com';
const questionEnd = 33;
const reply = (parts: Partial<MessageParts>): Uint8Array =>
  message({ flags: 0x8180, question: question(asked), ...parts });
const address = record({ owner: [0], type: 1, data: [192, 0, 2, 1] });

const cases: [string, Uint8Array, ReplyMatch][] = [
  ['same', reply({}), matchExact],
  ['same, with an error', reply({ flags: 0x8185 }), matchExact],
  ['same, with an answer', reply({ answer: [address] }), matchExact],
  ['other case', reply({ question: question('www.eXample.com') }), matchOtherCase],
  ['lower case', reply({ question: question('www.example.com') }), matchOtherCase],
  ['other label', reply({ question: question('wWw.eXamplf.com') }), matchNone],
  ['a dot for a letter', reply({ question: question('wWwaeXample.com') }), matchNone],
  ['other type', reply({ question: question(asked, 28) }), matchNone],
  ['other class', reply({ question: question(asked, 1, 3) }), matchNone],
  ['two questions', reply({ questions: 2 }), matchNone],
  ['cut', reply({}).slice(0, -1), matchNone],
  ['a query', query(asked), matchNone],
  ['opcode NOTIFY', reply({ flags: 0xa180 }), matchNone],
  ['opcode IQUERY, with an answer', reply({ flags: 0x8980, answer: [address] }), matchNone],
  ['opcode 15, with an error', reply({ flags: 0xf985 }), matchNone],
  ['REFUSED without question', reply({ flags: 0x8185, question: [] }), matchErrorWithoutQuestion],
  [
    'FORMERR without question, with OPT',
    reply({ flags: 0x8181, question: [], additional: [opt()] }),
    matchErrorWithoutQuestion,
  ],
  ['NOERROR without question', reply({ question: [] }), matchNone],
  ['NXDOMAIN without question', reply({ flags: 0x8183, question: [] }), matchNone],
  ['an error without question, QR clear', reply({ flags: 0x0185, question: [] }), matchNone],
  ['an error of another opcode', reply({ flags: 0xa185, question: [] }), matchNone],
  [
    'an answer without question',
    reply({ flags: 0x8185, question: [], answer: [address] }),
    matchNone,
  ],
  ['no header', new Uint8Array(11).fill(0x85), matchNone],
  ['empty', new Uint8Array(0), matchNone],
];

test('a reply matches by its question, or is an error without one', () => {
  const sent = query(asked);
  for (const [what, bytes, want] of cases) {
    const guarded = trapped(bytes);
    const got = matchReply(guarded.bytes, guarded.start, guarded.end, sent, 0, questionEnd);
    assert.equal(got, want, what);
  }
});

test('QTYPE and QCLASS have no case', () => {
  // HTTPS is 65, the octet of A; 97 is that of a.
  const sent = query('a.b', 65);
  for (const [type, want] of [
    [65, matchExact],
    [97, matchNone],
  ] as const) {
    const bytes = message({ flags: 0x8180, question: question('a.b', type) });
    assert.equal(matchReply(bytes, 0, bytes.length, sent, 0, 21), want);
  }
});

test('only case may differ, whatever the octets of the labels', () => {
  const label = fc.uint8Array({ minLength: 1, maxLength: 20 });
  const lower = (octet: number): number => (octet >= 65 && octet <= 90 ? octet + 32 : octet);
  const check = (octets: Uint8Array, at: number, octet: number): void => {
    const of = (name: Uint8Array, flags: number): Uint8Array =>
      message({ flags, question: [name.length, ...name, 0, 0, 1, 0, 1] });
    const sent = of(octets, 0x0100);
    const changed = octets.slice();
    changed[at % octets.length] = octet;
    const before = octets[at % octets.length]!;
    const inexact = lower(before) === lower(octet) ? matchOtherCase : matchNone;
    const want = before === octet ? matchExact : inexact;
    for (const guard of [0, 0xff]) {
      const { bytes, start, end } = surrounded(of(changed, 0x8180), guard);
      assert.equal(matchReply(bytes, start, end, sent, 0, sent.length), want);
    }
  };
  const letter = fc.integer({ min: 0x41, max: 0x7a });
  const octet = fc.oneof(letter, fc.nat(255));
  fc.assert(fc.property(label, fc.nat(20), octet, check), { seed, numRuns: 10_000 });
});
