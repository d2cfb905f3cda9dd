// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Aliases in replies: CNAME and DNAME records. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { labels, message, name, pointer, record } from '../../test/dns-message.ts';
import {
  a,
  addressesOf,
  asked,
  checkCut,
  checkLearned,
  checkPoisoned,
  cname,
  dname,
  example,
  key,
  type Learned,
  nowhere,
  type Poisoned,
  parse,
  reply,
  www,
} from '../../test/replies.ts';
import { parseQuery, QueryView, queryOk } from './query.ts';
import { ReplyView, replyBadChain, replyMalformed, replyOk } from './reply.ts';

const aliases = Array.from({ length: 17 }, (_, i) => name(`a${i}.test`));
const chainOf = (count: number): number[][] => [
  cname(www, aliases[0] as number[]),
  ...Array.from({ length: count - 1 }, (_, i) =>
    cname(aliases[i] as number[], aliases[i + 1] as number[]),
  ),
  a(aliases[count - 1] as number[]),
];

const learned: readonly Learned[] = [
  [
    'CNAME',
    reply({ answer: [cname(www, name('edge.test'), 60), a(name('edge.test'))] }),
    ['192.0.2.1 60'],
  ],
  [
    'CNAME chain backwards',
    reply({
      answer: [
        a(name('c.test')),
        cname(name('b.test'), name('c.test')),
        cname(www, name('B.test'), 7),
      ],
    }),
    ['192.0.2.1 7'],
  ],
  [
    'compressed CNAME',
    reply({ answer: [cname(www, [4, 101, 100, 103, 101, ...example]), a(pointer(45))] }),
    ['192.0.2.1 300'],
  ],
  [
    'DNAME with its CNAME',
    reply({
      answer: [
        dname(name('example.com'), name('other.test'), 50),
        cname(www, name('www.other.test'), 0),
        a(name('www.other.test')),
      ],
    }),
    ['192.0.2.1 0'],
  ],
  [
    'DNAME alone',
    reply({ answer: [dname(example, name('other.test'), 50), a(name('www.other.test'))] }),
    ['192.0.2.1 50'],
  ],
  ['16 CNAMEs', reply({ answer: chainOf(16) }), ['192.0.2.1 300']],
];

const poisoned: readonly Poisoned[] = [
  [
    'A at the alias, not its target',
    reply({ answer: [cname(www, name('edge.test')), a(www)] }),
    replyOk,
  ],
  [
    'A in the middle of the chain',
    reply({
      answer: [
        cname(www, name('b.test')),
        cname(name('b.test'), name('c.test')),
        a(name('b.test')),
      ],
    }),
    replyOk,
  ],
  [
    'CNAME of another name',
    reply({ answer: [cname(name('x.test'), name(nowhere)), a(name(nowhere))] }),
    replyOk,
  ],
  [
    'CNAME of class CH',
    reply({
      answer: [record({ owner: www, type: 5, class: 3, data: name(nowhere) }), a(name(nowhere))],
    }),
    replyOk,
  ],
  [
    'CNAME in the authority section',
    reply({ answer: [a(name(nowhere))], authority: [cname(www, name(nowhere))] }),
    replyOk,
  ],
  [
    'DNAME of the name itself',
    reply({ answer: [dname(www, name(nowhere)), a(name(nowhere))] }),
    replyOk,
  ],
  [
    'DNAME of half a label',
    reply({ answer: [dname(labels('w', 'example', 'com'), name(nowhere)), a(name(nowhere))] }),
    replyOk,
  ],
  [
    'two CNAMEs',
    reply({ answer: [cname(www, name('b.test')), cname(www, name('c.test')), a(name('b.test'))] }),
    replyBadChain,
  ],
  ['CNAME to itself', reply({ answer: [cname(www, name(asked)), a(www)] }), replyBadChain],
  [
    'CNAME loop',
    reply({ answer: [cname(www, name('b.test')), cname(name('b.test'), www), a(www)] }),
    replyBadChain,
  ],
  [
    'DNAME loop',
    reply({ answer: [dname(example, labels('x', 'example', 'com')), a(www)] }),
    replyBadChain,
  ],
  [
    'two DNAMEs',
    reply({
      answer: [
        dname(example, name('b.test')),
        dname(name('com'), name('c.test')),
        a(name('www.b.test')),
      ],
    }),
    replyBadChain,
  ],
  [
    'DNAME to a name too long',
    reply({
      answer: [
        dname(example, labels('a'.repeat(63), 'b'.repeat(63), 'c'.repeat(63), 'd'.repeat(58))),
        a(www),
      ],
    }),
    replyBadChain,
  ],
  ['17 CNAMEs', reply({ answer: chainOf(17) }), replyBadChain],
  [
    '17 CNAMEs, 16 of them elsewhere',
    reply({ answer: [a(www), ...aliases.map((alias) => cname(alias, name(nowhere)))] }),
    replyBadChain,
  ],
  [
    'CNAME data longer than its name',
    reply({
      answer: [record({ owner: www, type: 5, data: [...name('b.test'), 0] }), a(name('b.test'))],
    }),
    replyMalformed,
  ],
  [
    'CNAME data shorter than its name',
    reply({
      answer: [
        record({ owner: www, type: 5, data: name('b.test'), dataLength: 4 }),
        a(name('b.test')),
      ],
    }),
    replyMalformed,
  ],
  [
    'CNAME with a forward pointer',
    reply({ answer: [cname(www, pointer(47)), a(name(nowhere))] }),
    replyMalformed,
  ],
  [
    'CNAME that points to itself',
    reply({ answer: [cname(www, pointer(45)), a(www)] }),
    replyMalformed,
  ],
  [
    'CNAME into a header that reads as the root',
    reply({ id: 0, answer: [cname(www, pointer(0)), a([0])] }),
    replyMalformed,
  ],
  ['CNAME into the header', reply({ answer: [cname(www, pointer(0)), a(www)] }), replyMalformed],
];

test('the addresses behind aliases are learned', () => {
  checkLearned(learned);
});

test('a reply cut anywhere teaches nothing', () => {
  checkCut(learned);
});

test('poisoned aliases teach nothing', () => {
  checkPoisoned(poisoned);
});

test('16 CNAMEs are followed', () => {
  const view = new ReplyView(key);
  assert.equal(parse(reply({ answer: chainOf(16) }), view), replyOk);
  assert.deepEqual([view.addressCount, view.cnameCount], [1, 16]);
});

test('a DNAME begins at a label, not inside one', () => {
  // The first label holds the octets of the wire form of "example".
  const tricky = labels([120, 7, ...Array.from('example', (c) => c.charCodeAt(0))], 'com');
  const asking = new QueryView(key);
  const sent = message({ flags: 0x0100, question: [...tricky, 0, 1, 0, 1] });
  assert.equal(parseQuery(asking, sent, 0, sent.length), queryOk);
  for (const target of [[0], name('other.test')]) {
    const view = new ReplyView(key);
    const bytes = message({
      flags: 0x8180,
      question: [...tricky, 0, 1, 0, 1],
      answer: [dname(name('example.com'), target), a([9, ...tricky.slice(1, 10), 0])],
    });
    assert.equal(parse(bytes, view, asking), replyOk);
    assert.deepEqual([view.cnameCount, view.addressCount], [0, 0]);
  }
});

test('a target that expands to more than 255 octets is malformed', () => {
  const tail = labels('a'.repeat(63), 'b'.repeat(63), 'c'.repeat(63));
  for (const [length, want] of [
    [61, replyOk],
    [62, replyMalformed],
    [63, replyMalformed],
  ] as const) {
    const target = [...labels('d'.repeat(length)).slice(0, -1), ...pointer(33)];
    const bytes = reply({
      answer: [record({ owner: tail, type: 16, data: [] }), cname(www, target)],
    });
    assert.equal(parse(bytes), want, String(length));
  }
});

describe('copies of a record are one record (RFC 2181 section 5)', () => {
  const edge = name('edge.test');
  const copies: [string, number[][], string[]][] = [
    ['CNAME', [cname(www, edge), cname(www, edge), a(edge)], ['192.0.2.1 300']],
    [
      'of other case and compression',
      [cname(www, edge), cname(name('WWW.example.com'), name('EDGE.test')), a(edge)],
      ['192.0.2.1 300'],
    ],
    [
      'the lesser TTL counts, when it comes first',
      [cname(www, edge, 20), cname(www, edge, 40), a(edge)],
      ['192.0.2.1 20'],
    ],
    [
      'and when it comes last',
      [cname(www, edge, 40), a(edge), cname(www, edge, 20)],
      ['192.0.2.1 20'],
    ],
    [
      'DNAME',
      [
        dname(example, name('other.test')),
        dname(example, name('other.test'), 9),
        a(name('www.other.test')),
      ],
      ['192.0.2.1 9'],
    ],
    ['address', [a(www), a(www)], ['192.0.2.1 300', '192.0.2.1 300']],
    ['each of 16 aliases', [...chainOf(16), ...chainOf(16)], ['192.0.2.1 300', '192.0.2.1 300']],
  ];
  for (const [what, answer, want] of copies) {
    test(what, () => {
      const view = new ReplyView(key);
      assert.equal(parse(reply({ answer }), view), replyOk);
      assert.deepEqual(addressesOf(view), want);
    });
  }

  test('two targets of a name are no copies', () => {
    const view = new ReplyView(key);
    const answer = [cname(www, edge), cname(www, name('edge.tess')), a(edge)];
    assert.equal(parse(reply({ answer }), view), replyBadChain);
  });

  test('copies are looked at up to a bound, aliases over it are counted', () => {
    const view = new ReplyView(key);
    const many = (count: number): Uint8Array =>
      reply({ answer: [...Array.from({ length: count }, () => cname(www, edge)), a(edge)] });
    assert.equal(parse(many(32), view), replyOk);
    assert.equal(view.aliasesSkipped, 0);
    assert.equal(parse(many(35), view), replyBadChain);
    assert.equal(view.aliasesSkipped, 3);
    assert.equal(parse(reply({ answer: chainOf(17) }), view), replyBadChain);
    assert.deepEqual([view.aliasesSkipped, view.skipped], [1, 0]);
  });
});
