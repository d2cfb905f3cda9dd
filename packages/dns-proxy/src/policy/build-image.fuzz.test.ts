// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The lists, bitmaps and sorted tables of an image against a plain reading of the snapshot. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileMatcher } from '@tandem/core/dns/matcher-compile';
import { nameFromText } from '@tandem/core/dns/name';
import { type Pattern, patternFromCanonical } from '@tandem/core/dns/pattern';
import { loadName, QueryView } from '@tandem/core/dns/query';
import type { NamespaceId, PolicyId } from '@tandem/core/ids';
import {
  PatternContext,
  type PolicySnapshot,
  type PolicySnapshotInit,
} from '@tandem/proto/gen/messages';
import { decodePolicySnapshot, encodePolicySnapshot } from '@tandem/proto/snapshot';
import * as fc from 'fast-check';
import { address } from '../../test/records.ts';
import { buildImage, completePatterns } from './build-image.ts';
import { haveCommon, PolicyTables, type RuleSetIndex } from './tables.ts';

const seed = 20251121;
const texts = [
  'a.test.',
  '*.test.',
  '**.test.',
  '*a*.test.',
  'b*.x.test.',
  '*',
  'x.test.',
  '*.x.test.',
];
const names = [
  'a.test',
  'b.test',
  'ba.x.test',
  'x.test',
  'c.d.test',
  'other.org',
  'aaa.test',
  'xa.test',
];
const addresses = ['10.96.0.10', '10.0.0.53', 'fd00::53', '::'].map(address);
const policyIds = [1, 7, 0x7fffffff] as PolicyId[];
/** Policies of before. */
const formerIds = [2, 8, 0x7ffffffe] as PolicyId[];

const snapshots = fc
  .uniqueArray(fc.tuple(fc.constantFrom(...texts), fc.boolean()), {
    selector: ([text, isDns]) => `${text} ${isDns}`,
    maxLength: 12,
  })
  .chain((patterns) => {
    const index = fc.nat(Math.max(0, patterns.length - 1));
    const subset: fc.Arbitrary<number[]> =
      patterns.length === 0
        ? fc.constant([])
        : fc.uniqueArray(index, { maxLength: 6 }).map((list) => list.sort((a, b) => a - b));
    return fc.record({
      patterns: fc.constant(patterns),
      ruleSets: fc.array(fc.record({ patternIndexes: subset, matchAll: fc.boolean() }), {
        minLength: 1,
        maxLength: 4,
      }),
      servers: fc.uniqueArray(
        fc.record({
          policy: fc.nat(policyIds.length - 1),
          server: fc.nat(addresses.length - 1),
          protocol: fc.constantFrom(6, 17),
          ruleSet: fc.nat(3),
        }),
        {
          selector: ({ policy, server, protocol }) => `${policy} ${server} ${protocol}`,
          maxLength: 12,
        },
      ),
      selectors: fc.uniqueArray(fc.tuple(index, fc.constantFrom(0, ...policyIds)), {
        selector: ([pattern, policy]) => `${pattern} ${policy}`,
        maxLength: patterns.length === 0 ? 0 : 10,
      }),
      trusted: fc.uniqueArray(fc.nat(addresses.length - 1)),
      /** For each policy, the namespace of its one endpoint, and the patterns that its rules name. */
      namespaces: fc.tuple(...policyIds.map(() => fc.integer({ min: 2, max: 3 }))),
      fqdnPatterns: fc.tuple(...policyIds.map(() => subset)),
      predecessors: fc.tuple(
        ...policyIds.map(() => fc.uniqueArray(fc.constantFrom(...formerIds), { maxLength: 2 })),
      ),
    });
  });
type Draft = typeof snapshots extends fc.Arbitrary<infer T> ? T : never;

const ruleSetOf = (draft: Draft, ruleSet: number): number => ruleSet % draft.ruleSets.length;

/** As it comes out of the file and the stream. */
function decoded(init: Partial<PolicySnapshotInit>): PolicySnapshot {
  const encoded = encodePolicySnapshot({ revision: 5, nodeName: 'n', createdUnixMs: 1, ...init });
  assert.ok(encoded.ok, JSON.stringify(encoded));
  const back = decodePolicySnapshot(encoded.value);
  assert.ok(back.ok, JSON.stringify(back));
  return back.value;
}

function toSnapshot(draft: Draft): PolicySnapshot {
  return decoded({
    patterns: draft.patterns.map(([text, isDns]) => ({
      text,
      context: isDns
        ? PatternContext.PATTERN_CONTEXT_DNS_RULE
        : PatternContext.PATTERN_CONTEXT_TO_FQDNS,
    })),
    ruleSets: draft.ruleSets.map((set, i) => ({ id: 100 + i, ...set })),
    selectors: draft.selectors.map(([patternIndex, policyId], i) => ({
      id: 0x80000001 + i,
      patternIndex,
      policyId,
    })),
    endpoints: policyIds.map((policyId, i) => ({
      address: new Uint8Array(16).fill(i + 1),
      endpointId: i + 1,
      policyId,
      namespaceId: draft.namespaces[i]!,
    })),
    policies: policyIds.map((id, policy) => ({
      id,
      fqdnPatterns: draft.fqdnPatterns[policy] as number[],
      predecessors: draft.predecessors[policy] as PolicyId[],
      servers: draft.servers
        .filter((each) => each.policy === policy)
        .map(({ server, protocol, ruleSet }) => ({
          server: addresses[server] as Uint8Array,
          protocol,
          ruleSetId: 100 + ruleSetOf(draft, ruleSet),
        })),
    })),
    trustedServers: draft.trusted.map((i) => addresses[i] as Uint8Array),
  });
}

test('an image says what its snapshot says', () => {
  fc.assert(
    fc.property(snapshots, (draft) => {
      const built = buildImage(toSnapshot(draft));
      assert.deepEqual(built.rejected, []);
      const tables = new PolicyTables(built.image);
      assert.equal(tables.revision, 5);
      checkNames(draft, tables);
      checkServers(draft, tables);
    }),
    { seed, numRuns: 150 },
  );
});

/** Offered is what no policy of the namespace names; a snapshot of an earlier version does not say. */
function checkOffered(
  draft: Draft,
  trusted: boolean,
  namespaceId: number,
  selectors: Uint32Array,
  offered: Uint8Array,
): void {
  const isSaid = draft.fqdnPatterns.some(({ length }) => length > 0);
  const wanted = new Set(
    policyIds.flatMap((_, i) =>
      draft.namespaces[i] === namespaceId ? (draft.fqdnPatterns[i] as number[]) : [],
    ),
  );
  for (const [i, selector] of selectors.entries()) {
    const [pattern] = draft.selectors[selector - 0x80000001] as [number, number];
    const expected = trusted && isSaid && !wanted.has(pattern) ? 1 : 0;
    assert.equal(offered[i], expected, `selector ${selector} of namespace ${namespaceId}`);
  }
}

/** Policies for which answers to this one count: itself, and those that took its place. */
function fedBy({ predecessors }: Draft, policyId: PolicyId): readonly number[] {
  return policyIds.filter((id, i) => id === policyId || predecessors[i]?.includes(policyId));
}

/** Rule sets and selectors, name by name, one pattern at a time. */
function checkNames(draft: Draft, tables: PolicyTables): void {
  const view = new QueryView({ low: 3, high: 4 });
  const matches = draft.patterns.map(([text, isDns]) => matcherOf(text, isDns));
  for (const name of names) {
    const wire = nameFromText(name);
    assert.ok(wire !== null && loadName(view, wire, 0, wire.length));
    const set = tables.matcher.match(view);
    const matching = matches.map((match) => match(view));
    draft.ruleSets.forEach(({ patternIndexes, matchAll }, ruleSet) => {
      const expected = matchAll || patternIndexes.some((i) => matching[i]);
      assert.equal(
        tables.isAllowed(ruleSet as RuleSetIndex, set),
        expected,
        `${name} in rule set ${ruleSet}`,
      );
    });
    for (const policyId of [...policyIds, ...formerIds]) {
      for (const trusted of [true, false]) {
        const out = new Uint32Array(64);
        const offered = new Uint8Array(64);
        const namespaceId = (draft.namespaces[policyIds.indexOf(policyId)] ??
          draft.namespaces[0]!) as NamespaceId;
        const count = tables.selectorsOf(set, trusted, policyId, namespaceId, out, offered);
        const wanted = trusted ? [0] : fedBy(draft, policyId);
        const expected = draft.selectors.flatMap(([pattern, policy], i) =>
          wanted.includes(policy) && matching[pattern] ? [0x80000001 + i] : [],
        );
        assert.deepEqual([...out.subarray(0, count)].sort(), expected.sort());
        checkOffered(draft, trusted, namespaceId, out.subarray(0, count), offered);
      }
    }
  }
}

function matcherOf(text: string, isDns: boolean): (view: QueryView) => boolean {
  const pattern: Pattern | null = patternFromCanonical(text, isDns ? 'rules.dns' : 'toFQDNs');
  assert.ok(pattern !== null, text);
  const { matcher } = compileMatcher([pattern], 0x5eed);
  return (view) => matcher.has(matcher.match(view), 0);
}

function checkServers(draft: Draft, tables: PolicyTables): void {
  const find = (policy: number, server: number, protocol: number): number => {
    const exact = draft.servers.find(
      (each) => each.policy === policy && each.server === server && each.protocol === protocol,
    );
    return exact === undefined ? -1 : ruleSetOf(draft, exact.ruleSet);
  };
  const anyServer = addresses.length - 1;
  policyIds.forEach((policyId, policy) => {
    assert.ok(tables.hasPolicy(policyId));
    addresses.forEach((bytes, server) => {
      const words = new Uint32Array(bytes.slice().buffer);
      for (const protocol of [6, 17]) {
        const exact = find(policy, server, protocol);
        const expected = exact >= 0 ? exact : find(policy, anyServer, protocol);
        assert.equal(tables.ruleSetOf(policyId, words, 0, protocol), expected);
      }
      assert.equal(tables.isTrusted(words, 0), draft.trusted.includes(server));
    });
  });
  for (const id of [0, 3, 0xffffffff] as PolicyId[]) assert.ok(!tables.hasPolicy(id));
}

test('a pattern that is not canonical matches nothing, and the rest is as it was', () => {
  const strange = ['UPPER.test.', 'no-dot', 'a**b.test.', `${'a'.repeat(255)}.`, '', 'x y.', '**'];
  const without = (draft: Draft): Draft => ({
    ...draft,
    ruleSets: draft.ruleSets.map((set) => ({
      ...set,
      patternIndexes: set.patternIndexes.filter((i) => i !== 0),
    })),
    selectors: draft.selectors.map(([pattern, policy]) => [pattern, pattern === 0 ? -1 : policy]),
  });
  fc.assert(
    fc.property(snapshots, fc.constantFrom(...strange), (draft, text) => {
      if (draft.patterns.length === 0) return;
      const snapshot = toSnapshot(draft);
      const [first, ...others] = snapshot.patterns;
      assert.ok(first !== undefined);
      const patterns = [{ ...first, text }, ...others];
      const spoiled = { ...snapshot, patterns, compiledMatcher: new Uint8Array(0) };
      const built = buildImage(spoiled);
      assert.deepEqual(
        built.rejected.map(({ index, reason }) => [index, reason]),
        [[0, 'not-canonical']],
      );
      checkNames(without(draft), new PolicyTables(built.image));
      const { compiledMatcher, rejected } = completePatterns(patterns);
      assert.deepEqual(rejected, built.rejected);
      const back = decoded({ ...spoiled, compiledMatcher });
      assert.deepEqual(buildImage(back).image, built.image);
    }),
    { seed, numRuns: 100 },
  );
});

test('long lists have a number in common where one of their numbers is in the other', () => {
  const list = fc.uniqueArray(fc.nat(600), { maxLength: 300 }).map((all) => {
    return Int32Array.from(all).sort();
  });
  fc.assert(
    fc.property(list, list, fc.nat(3), (few, many, from) => {
      const own = few.subarray(from);
      assert.equal(
        haveCommon(few, Math.min(from, few.length), few.length, many, 0, many.length),
        own.some((each) => many.includes(each)),
      );
    }),
    { seed, numRuns: 300 },
  );
});
