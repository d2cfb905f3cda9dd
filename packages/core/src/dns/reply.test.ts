// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  labels,
  long,
  type MessageParts,
  message,
  name,
  opt,
  pointer,
  query,
  question,
  record,
  word,
} from '../../test/dns-message.ts';
import { trapped } from '../../test/guarded-bytes.ts';
import { parseQuery, QueryView, queryOk } from './query.ts';
import {
  parseReply,
  type ReplyStatus,
  ReplyView,
  replyBadChain,
  replyForeign,
  replyMalformed,
  replyNegative,
  replyOk,
  replyTruncated,
} from './reply.ts';

const key = { low: 5, high: 6 };
const asked = 'www.example.com';
const nowhere = 'poison.test';

function viewOf(text: string, type = 1): QueryView {
  const view = new QueryView(key);
  const bytes = query(text, type);
  assert.equal(parseQuery(view, bytes, 0, bytes.length), queryOk);
  return view;
}

function a(owner: readonly number[], last = 1, ttl = 300): number[] {
  return record({ owner, type: 1, ttl, data: [192, 0, 2, last] });
}

function aaaa(owner: readonly number[], octets: readonly number[]): number[] {
  const data = [
    ...octets.slice(0, 8),
    ...Array.from({ length: 16 - octets.length }, () => 0),
    ...octets.slice(8),
  ];
  return record({ owner, type: 28, data });
}

function cname(owner: readonly number[], target: readonly number[], ttl = 300): number[] {
  return record({ owner, type: 5, ttl, data: target });
}

function dname(owner: readonly number[], target: readonly number[], ttl = 300): number[] {
  return record({ owner, type: 39, ttl, data: target });
}

/** A reply to A www.example.com. The name begins at 12, "example.com" at 16, the answers at 33. */
function reply(parts: Partial<MessageParts>): Uint8Array {
  return message({ flags: 0x8180, question: question(asked), ...parts });
}

function parse(bytes: Uint8Array, view = new ReplyView(key), asking = viewOf(asked)): ReplyStatus {
  const guarded = trapped(bytes);
  const status = parseReply(view, guarded.bytes, guarded.start, guarded.end, asking);
  if (status !== replyOk) assert.equal(view.addressCount, 0);
  return status;
}

function addressesOf(view: ReplyView): string[] {
  return Array.from({ length: view.addressCount }, (_, i) => {
    const octets = view.addresses.slice(i * 16, i * 16 + 16);
    const text =
      view.types[i] === 1 ? octets.slice(12).join('.') : Buffer.from(octets).toString('hex');
    return `${text} ${view.ttls[i]}`;
  });
}

const www = pointer(12);
const example = pointer(16);

const controls: [string, Uint8Array, string[]][] = [
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
  const view = new ReplyView(key);
  for (const [what, bytes, want] of controls) {
    assert.equal(parse(bytes, view), replyOk, what);
    assert.deepEqual(addressesOf(view), want, what);
  }
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

const aliases = Array.from({ length: 17 }, (_, i) => name(`a${i}.test`));
const chainOf = (count: number): number[][] => [
  cname(www, aliases[0] as number[]),
  ...Array.from({ length: count - 1 }, (_, i) =>
    cname(aliases[i] as number[], aliases[i + 1] as number[]),
  ),
  a(aliases[count - 1] as number[]),
];

/** Poisoned replies: the status, and nothing is learned. */
const poisoned: [string, Uint8Array, ReplyStatus][] = [
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
    'forward pointer as owner',
    reply({ answer: [a(pointer(49)), record({ owner: name(asked), type: 16, data: [0] })] }),
    replyOk,
  ],
  ['owner that points to itself', reply({ answer: [a(pointer(33))] }), replyOk],
  ['owner in the header', reply({ answer: [a(pointer(4))] }), replyOk],
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
  const view = new ReplyView(key);
  assert.ok(poisoned.length >= 30);
  for (const [what, bytes, want] of poisoned) {
    assert.equal(parse(bytes, view), want, what);
    assert.deepEqual(addressesOf(view), [], what);
  }
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

test('16 CNAMEs are followed', () => {
  const view = new ReplyView(key);
  assert.equal(parse(reply({ answer: chainOf(16) }), view), replyOk);
  assert.deepEqual([view.addressCount, view.cnameCount], [1, 16]);
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
  const view = new ReplyView(key);
  for (const [what, bytes] of controls) {
    if (what === 'trailing octets') continue;
    for (let length = 0; length < bytes.length; length++) {
      const status = parse(bytes.slice(0, length), view);
      assert.equal(status, length < 33 ? replyForeign : replyMalformed, `${what} cut at ${length}`);
    }
  }
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
