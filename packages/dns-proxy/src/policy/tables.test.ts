// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Which servers got other backends from one policy to the next, and which selectors an answer feeds first. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nameFromText } from '@tandem/core/dns/name';
import { loadName, QueryView } from '@tandem/core/dns/query';
import type { NamespaceId, PolicyId } from '@tandem/core/ids';
import { formatAddress } from '@tandem/core/net/ip';
import { PatternContext } from '@tandem/proto/gen/messages';
import { decodePolicySnapshot, encodePolicySnapshot } from '@tandem/proto/snapshot';
import * as fc from 'fast-check';
import { address } from '../../test/records.ts';
import { buildImage } from './build-image.ts';
import { PolicyTables } from './tables.ts';

type Digests = Readonly<Record<string, number>>;

/** As it comes out of the file and the stream. `null`: of a writer that does not know the field. */
function tablesOf(digests: Digests | null): PolicyTables {
  const listed = Object.entries(digests ?? {}).map(([text, digest]) => {
    return { address: address(text), digest };
  });
  const field = digests === null ? {} : { backendDigests: listed };
  const encoded = encodePolicySnapshot({ revision: 1, nodeName: 'n', createdUnixMs: 1, ...field });
  assert.ok(encoded.ok);
  const decoded = decodePolicySnapshot(encoded.value);
  assert.ok(decoded.ok);
  return new PolicyTables(buildImage(decoded.value).image);
}

function changed(before: Digests | null, after: Digests | null): string[] {
  const servers = tablesOf(after).serversChangedSince(tablesOf(before));
  return servers.map((server) => formatAddress(server)).sort();
}

const dns = '10.96.0.10';
const dns6 = 'fd00:96::10';
const rows: readonly (readonly [
  what: string,
  before: Digests | null,
  after: Digests | null,
  want: readonly string[],
])[] = [
  ['nothing is known', {}, {}, []],
  ['nothing changed', { [dns]: 1, [dns6]: 2 }, { [dns6]: 2, [dns]: 1 }, []],
  ['one of two changed', { [dns]: 1, [dns6]: 2 }, { [dns]: 1, [dns6]: 3 }, [dns6]],
  ['a digest of 32 bits', { [dns]: 0xffff_ffff }, { [dns]: 0xffff_fffe }, [dns]],
  ['a server is gone', { [dns]: 1, [dns6]: 2 }, { [dns]: 1 }, [dns6]],
  ['a server is new', { [dns]: 1 }, { '10.96.0.11': 1, [dns]: 1 }, ['10.96.0.11']],
  ['known no longer', { [dns]: 1 }, { [dns]: 0 }, [dns]],
  ['after a snapshot without the field', null, { [dns]: 1 }, [dns]],
  ['before a snapshot without the field', { [dns]: 1 }, null, [dns]],
  ['both without the field', null, null, []],
];

for (const [what, before, after, want] of rows) {
  test(`servers with other backends: ${what}`, () =>
    assert.deepEqual(changed(before, after), want));
}

test('the addresses are copies', () => {
  const after = tablesOf({ [dns]: 2 });
  const before = tablesOf({ [dns]: 1 });
  after.serversChangedSince(before)[0]?.fill(0);
  assert.deepEqual(after.serversChangedSince(before), [address(dns)]);
});

test('a comparison of two policies is that of their tables', () => {
  const addresses = ['10.96.0.10', '10.96.0.9', '255.0.0.1', 'fd00::1', '::2', '1::'];
  const digests = fc.dictionary(fc.constantFrom(...addresses), fc.constantFrom(1, 2));
  fc.assert(
    fc.property(digests, digests, (before, after) => {
      const want = addresses.filter((each) => before[each] !== after[each]).sort();
      assert.deepEqual(changed(before, after), want);
    }),
    { seed: 20251128, numRuns: 200 },
  );
});

/** More patterns than an answer may feed, each another one, that match the label of so many letters; and last the name itself. */
function patternsOf(letters: number): string[] {
  const stars = Array.from({ length: letters + 1 }, (_, before) =>
    Array.from({ length: letters + 1 - before }, (__, behind) => {
      return `${'a'.repeat(before)}*${'a'.repeat(behind)}.test.`;
    }),
  ).flat();
  return [...stars, `${'a'.repeat(letters)}.test.`];
}

test('patterns of another namespace keep no selector of the own one out, however many match the name', () => {
  const room = 256;
  const firstSelector = 0x8000_0001;
  const patterns = patternsOf(24);
  const own = patterns.length - 1;
  assert.ok(own > room);
  const context = PatternContext.PATTERN_CONTEXT_TO_FQDNS;
  const encoded = encodePolicySnapshot({
    ...{ revision: 1, nodeName: 'n', createdUnixMs: 1 },
    patterns: patterns.map((text) => ({ text, context })),
    selectors: patterns.map((_, at) => ({ id: firstSelector + at, patternIndex: at, policyId: 0 })),
    endpoints: [2, 3].map((id) => {
      const address16 = new Uint8Array(16).fill(id);
      return { address: address16, endpointId: id, policyId: id, namespaceId: id };
    }),
    policies: [
      { id: 2, fqdnPatterns: Array.from({ length: own }, (_, i) => i) },
      { id: 3, fqdnPatterns: [own] },
    ],
  });
  assert.ok(encoded.ok);
  const decoded = decodePolicySnapshot(encoded.value);
  assert.ok(decoded.ok);
  const tables = new PolicyTables(buildImage(decoded.value).image);
  const view = new QueryView({ low: 1, high: 2 });
  const wire = nameFromText(patterns[own] as string);
  assert.ok(wire !== null && loadName(view, wire, 0, wire.length));
  const set = tables.matcher.match(view);
  const feeds = (namespaceId: number): [number[], number[]] => {
    const [out, offered] = [new Uint32Array(room), new Uint8Array(room)];
    const to = [out, offered] as const;
    const count = tables.selectorsOf(set, true, 3 as PolicyId, namespaceId as NamespaceId, ...to);
    assert.equal(count, room);
    return [[...out], [...offered]];
  };
  const [selectors, offered] = feeds(3);
  assert.deepEqual([selectors[0], offered[0]], [firstSelector + own, 0]);
  assert.ok(offered.slice(1).every((each) => each === 1));
  assert.ok(feeds(2)[1].every((each) => each === 0));
});

test('rule sets, patterns and predecessors of one author take room for their sum, not for their product', () => {
  const count = 1500;
  const numbers = Array.from({ length: count }, (_, i) => i);
  const encoded = encodePolicySnapshot({
    ...{ revision: 1, nodeName: 'n', createdUnixMs: 1 },
    patterns: numbers.flatMap((i) => [
      { text: `n${i}.test.`, context: PatternContext.PATTERN_CONTEXT_DNS_RULE },
      { text: `n${i}.test.`, context: PatternContext.PATTERN_CONTEXT_TO_FQDNS },
    ]),
    ruleSets: numbers.map((i) => ({ id: 2 + i, patternIndexes: [2 * i] })),
    selectors: numbers.map((i) => {
      return { id: 0x8000_0001 + i, patternIndex: 2 * i + 1, policyId: 5 };
    }),
    policies: [
      {
        ...{ id: 5, fqdnPatterns: numbers.map((i) => 2 * i + 1) },
        predecessors: Array.from({ length: 64 }, (_, i) => 100 + i),
        servers: numbers.map((i) => {
          const server = Uint8Array.of(...new Array(14).fill(0xfd), i >> 8, i & 0xff);
          return { server, protocol: 17, ruleSetId: 2 + i };
        }),
      },
    ],
  });
  assert.ok(encoded.ok);
  const decoded = decodePolicySnapshot(encoded.value);
  assert.ok(decoded.ok);
  const { matcher: _matcher, ...image } = buildImage(decoded.value).image;
  const octets = Object.values(image).reduce<number>(
    (sum, part) => sum + (ArrayBuffer.isView(part) ? part.byteLength : 0),
    0,
  );
  assert.ok(octets < 100 * count, `${octets}`);
  const { policyOf, scopesOf } = new PolicyTables({ ...image, matcher: _matcher }).privateFeeds();
  assert.deepEqual([policyOf.size, scopesOf.size, scopesOf.get(5)?.size], [count, 1, 65]);
});
