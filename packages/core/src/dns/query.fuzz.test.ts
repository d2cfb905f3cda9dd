// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { opt, query } from '../../test/dns-message.ts';
import { surrounded } from '../../test/guarded-bytes.ts';
import { parseQuery, QueryView, queryOk } from './query.ts';

const seed = 20251121;
const key = { low: 1, high: 2 };

/** Random octets behind a plausible header, and real queries with a few octets changed. */
const packets = fc.oneof(
  fc.uint8Array({ maxLength: 64 }),
  fc
    .uint8Array({ maxLength: 300 })
    .map((body) => Uint8Array.from([0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1, ...body])),
  fc
    .tuple(fc.nat(2), fc.nat(2), fc.nat(2), fc.nat(3), fc.uint8Array({ maxLength: 100 }))
    .map(([qd, an, ns, ar, body]) =>
      Uint8Array.from([0, 1, 0x28, 0, 0, qd, 0, an, 0, ns, 0, ar, ...body, ...opt()]),
    ),
  fc.array(fc.tuple(fc.nat(80), fc.nat(255)), { maxLength: 4 }).map((changes) => {
    const bytes = query('some.Name-of.example.com', 1, [opt(1232, 0, 0, [0, 3, 0, 1, 7])]);
    for (const [at, octet] of changes) if (at < bytes.length) bytes[at] = octet;
    return bytes;
  }),
);

test('nothing outside of a packet matters', () => {
  const [first, second] = [new QueryView(key), new QueryView(key)];
  const check = (bytes: Uint8Array): void => {
    const zeros = surrounded(bytes, 0);
    const ones = surrounded(bytes, 0xff, 3);
    const status = parseQuery(first, zeros.bytes, zeros.start, zeros.end);
    assert.equal(parseQuery(second, ones.bytes, ones.start, ones.end), status);
    assert.equal(first.questionEnd, second.questionEnd);
    assert.equal(first.messageEnd, second.messageEnd);
    assert.equal(first.hasEdns, second.hasEdns);
    assert.equal(first.isDnssecOk, second.isDnssecOk);
    assert.equal(first.ednsVersion, second.ednsVersion);
    assert.ok(first.messageEnd <= bytes.length);
    if (status !== queryOk) return;
    assert.ok(first.questionEnd >= 17 && first.questionEnd <= first.messageEnd);
    assert.equal(first.hash, second.hash);
    assert.equal(first.nameLength, first.questionEnd - 16);
    assert.ok(first.nameLength <= 255 && first.labelCount <= 127);
    const echoed = bytes.slice(12, 12 + first.nameLength);
    const folded = echoed.map((octet) => (octet >= 65 && octet <= 90 ? octet + 32 : octet));
    assert.deepEqual(first.name.slice(0, first.nameLength), folded);
  };
  fc.assert(fc.property(packets, check), { seed, numRuns: 20_000 });
});
