// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Replies of which nothing may be learned, but for those whose aliases are at fault: reply-aliases.test.ts. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { labels, message, name, opt, pointer, question, record } from '../../test/dns-message.ts';
import {
  a,
  aaaa,
  asked,
  checkPoisoned,
  example,
  key,
  nowhere,
  type Poisoned,
  parse,
  reply,
  www,
} from '../../test/replies.ts';
import {
  ReplyView,
  replyForeign,
  replyMalformed,
  replyNegative,
  replyOk,
  replyTruncated,
} from './reply.ts';

const poisoned: readonly Poisoned[] = [
  ['another owner', reply({ answer: [a(name(nowhere))] }), replyOk],
  ['a parent', reply({ answer: [a(example)] }), replyOk],
  ['a child', reply({ answer: [a(labels('x', 'www', 'example', 'com'))] }), replyOk],
  ['the root', reply({ answer: [a([0])] }), replyOk],
  ['dot inside a label', reply({ answer: [a(labels('www.example', 'com'))] }), replyOk],
  ['authority section', reply({ authority: [a(www)] }), replyOk],
  ['additional section', reply({ additional: [a(www)] }), replyOk],
  [
    'class CH',
    reply({ answer: [record({ owner: www, type: 1, class: 3, data: [1, 2, 3, 4] })] }),
    replyOk,
  ],
  [
    'class ANY',
    reply({ answer: [record({ owner: www, type: 1, class: 255, data: [1, 2, 3, 4] })] }),
    replyOk,
  ],
  ['another type', reply({ answer: [aaaa(www, [0x20, 1, 13, 0xb8, 0, 0, 0, 0, 0, 7])] }), replyOk],
  [
    'data of another type',
    reply({ answer: [record({ owner: www, type: 16, data: [192, 0, 2, 1] })] }),
    replyOk,
  ],
  [
    'forward pointer as owner',
    reply({ answer: [a(pointer(49)), record({ owner: name(asked), type: 16, data: [0] })] }),
    replyOk,
  ],
  ['owner that points to itself', reply({ answer: [a(pointer(33))] }), replyOk],
  ['owner in the header', reply({ answer: [a(pointer(4))] }), replyOk],
  [
    'A of 3 octets',
    reply({ answer: [record({ owner: www, type: 1, data: [1, 2, 3] })] }),
    replyMalformed,
  ],
  [
    'A of 16 octets',
    reply({ answer: [record({ owner: www, type: 1, data: Array.from({ length: 16 }, () => 1) })] }),
    replyMalformed,
  ],
  [
    'AAAA of 4 octets',
    reply({ answer: [a(www), record({ owner: www, type: 28, data: [1, 2, 3, 4] })] }),
    replyMalformed,
  ],
  [
    'A of 0 octets, class CH',
    reply({ answer: [record({ owner: www, type: 1, class: 3, data: [] })] }),
    replyMalformed,
  ],
  [
    'RDLENGTH over the end',
    reply({ answer: [record({ owner: www, type: 1, data: [1, 2, 3, 4], dataLength: 5 })] }),
    replyMalformed,
  ],
  ['more answers than there are', reply({ answer: [a(www)], counts: [2, 0, 0] }), replyMalformed],
  ['65535 records', reply({ answer: [a(www)], counts: [65535, 65535, 65535] }), replyMalformed],
  ['extended label', reply({ answer: [a([0x41, 1, 0])] }), replyMalformed],
  [
    'owner of 64 octets',
    reply({ answer: [a([64, ...Array.from({ length: 64 }, () => 97), 0])] }),
    replyMalformed,
  ],
  ['two OPT', reply({ answer: [a(www)], additional: [opt(), opt()] }), replyMalformed],
  [
    'OPT with a name',
    reply({ answer: [a(www)], additional: [record({ owner: name('a'), type: 41, data: [] })] }),
    replyMalformed,
  ],
  ['TC', reply({ flags: 0x8380, answer: [a(www)] }), replyTruncated],
  ['SERVFAIL', reply({ flags: 0x8182, answer: [a(www)] }), replyNegative],
  ['NXDOMAIN', reply({ flags: 0x8183, answer: [a(www)] }), replyNegative],
  ['BADVERS', reply({ answer: [a(www)], additional: [opt(1232, 0, 1)] }), replyNegative],
  ['a query', reply({ flags: 0x0100, answer: [a(www)] }), replyForeign],
  ['NOTIFY', reply({ flags: 0xa180, answer: [a(www)] }), replyForeign],
  [
    'another question',
    message({ flags: 0x8180, question: question(nowhere), answer: [a(www)] }),
    replyForeign,
  ],
  [
    'another type of question',
    message({ flags: 0x8180, question: question(asked, 16), answer: [a(www)] }),
    replyForeign,
  ],
  [
    'another class of question',
    message({ flags: 0x8180, question: question(asked, 1, 3), answer: [a(www)] }),
    replyForeign,
  ],
  [
    'a longer question',
    message({ flags: 0x8180, question: question(`${asked}.test`), answer: [a(www)] }),
    replyForeign,
  ],
  ['no question', message({ flags: 0x8180, answer: [a(name(asked))] }), replyForeign],
  [
    'two questions',
    message({
      flags: 0x8180,
      question: [...question(asked), ...question(nowhere)],
      questions: 2,
      answer: [a(www)],
    }),
    replyForeign,
  ],
  [
    'pointer in the question',
    message({
      flags: 0x8180,
      question: [...pointer(18), 0, 1, 0, 1, ...name(asked)],
      questions: 1,
    }),
    replyForeign,
  ],
  ['nothing', new Uint8Array(0), replyForeign],
  ['11 octets', new Uint8Array(11).fill(0x80), replyForeign],
];

test('poisoned replies teach nothing', () => {
  checkPoisoned(poisoned);
});

/** A reply of unbound 1.17 to a client that its access-control refuses. */
const refusedByUnbound = Uint8Array.from([0x12, 0x34, 0x81, 0x05, 0, 0, 0, 0, 0, 0, 0, 0]);

test('an error without question is negative, and its OPT is found', () => {
  const view = new ReplyView(key);
  assert.equal(parse(refusedByUnbound, view), replyNegative);
  assert.deepEqual([view.rcode, view.questionEnd, view.messageEnd, view.optLength], [5, 0, 12, 0]);
  assert.equal(parse(message({ flags: 0x8181, additional: [opt()] }), view), replyNegative);
  assert.deepEqual([view.rcode, view.optOffset, view.optLength], [1, 12, 11]);
  assert.equal(parse(message({ flags: 0x8385 }), view), replyTruncated);
  assert.equal(parse(message({ flags: 0x8185, counts: [0, 0, 1] }), view), replyMalformed);
});

test('the RCODE has the upper bits of the OPT (RFC 6891 section 6.1.3)', () => {
  const view = new ReplyView(key);
  for (const [flags, upper, want] of [
    [0x8180, 1, 16],
    [0x8187, 1, 23],
    [0x8183, 0, 3],
    [0x818f, 0xff, 0xfff],
  ] as const) {
    assert.equal(parse(reply({ flags, additional: [opt(1232, 0, upper)] }), view), replyNegative);
    assert.equal(view.rcode, want);
  }
  assert.equal(parse(reply({ answer: [a(www)] }), view), replyOk);
  assert.equal(view.rcode, 0);
});
