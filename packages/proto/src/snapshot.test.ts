// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PatternContext, PolicySnapshot, type PolicySnapshotInit } from './gen/messages.ts';
import { decodePolicySnapshot, encodePolicySnapshot } from './snapshot.ts';

const address16 = new Uint8Array(16).fill(1);

/** A small snapshot in which everything refers to something. */
function validSnapshot(): PolicySnapshotInit {
  return {
    schemaVersion: 1,
    revision: 3,
    nodeName: 'node-a',
    createdUnixMs: 1_700_000_000_000,
    endpoints: [{ address: address16, endpointId: 1, policyId: 9, namespace: 'shop', pod: 'web' }],
    patterns: [
      { text: 'a.example.', context: PatternContext.PATTERN_CONTEXT_TO_FQDNS },
      { text: '*', context: PatternContext.PATTERN_CONTEXT_DNS_RULE },
    ],
    selectors: [{ id: 0x8000_0001, patternIndex: 0 }],
    ruleSets: [{ id: 4, patternIndexes: [0, 1] }],
    policies: [{ id: 9, servers: [{ server: address16, protocol: 17, ruleSetId: 4 }] }],
    trustedServers: [address16],
    neverLearn: [{ address: address16, bits: 128 }],
    backendDigests: [{ address: address16, digest: 0xffff_ffff }],
    compiledMatcher: new Uint8Array(1000).fill(7),
  };
}

test('a snapshot survives the trip', () => {
  const encoded = encodePolicySnapshot(validSnapshot());
  assert.ok(encoded.ok);
  const decoded = decodePolicySnapshot(encoded.value);
  assert.ok(decoded.ok);
  assert.equal(decoded.value.revision, 3);
  assert.equal(decoded.value.endpoints[0]?.pod, 'web');
  assert.equal(decoded.value.selectors[0]?.policyId, 0);
  assert.equal(decoded.value.compiledMatcher.length, 1000);
  assert.equal(decoded.value.backendDigests[0]?.digest, 0xffff_ffff);
});

test('a snapshot of a writer that knows no backend digests is read', () => {
  const { backendDigests: _absent, ...older } = validSnapshot();
  const encoded = encodePolicySnapshot(older);
  assert.ok(encoded.ok);
  const decoded = decodePolicySnapshot(encoded.value);
  assert.ok(decoded.ok);
  assert.deepEqual([decoded.value.revision, decoded.value.backendDigests], [3, []]);
});

test('a field of a newer writer is passed over', () => {
  const encoded = encodePolicySnapshot(validSnapshot());
  assert.ok(encoded.ok);
  const field31 = Uint8Array.of(0xfa, 0x01, 0x03, 1, 2, 3);
  const decoded = decodePolicySnapshot(Buffer.concat([encoded.value, field31]));
  assert.ok(decoded.ok);
  assert.equal(decoded.value.revision, 3);
});

test('bytes that are none are refused', () => {
  assert.equal(decodePolicySnapshot(new Uint8Array(0)).ok, false);
  assert.equal(decodePolicySnapshot(new Uint8Array(64).fill(0xff)).ok, false);
});

/** Broken snapshots, and what the error must name. */
const broken: readonly (readonly [string, PolicySnapshotInit, RegExp])[] = [
  ['schema version', { schemaVersion: 2 }, /schema version 2, this program reads 1/],
  ['revision', { revision: 0 }, /revision is 0/],
  [
    'endpoint address',
    { endpoints: [{ address: address16.subarray(1), endpointId: 1 }] },
    /endpoints\[0\]\.address/,
  ],
  ['endpoint id', { endpoints: [{ address: address16 }] }, /endpoint_id is 0/],
  ['pattern context', { patterns: [{ text: 'a.' }] }, /patterns\[0\]\.context is 0/],
  ['selector id', { selectors: [{ id: 1 }] }, /selectors\[0\]\.id/],
  [
    'selector pattern',
    { selectors: [{ id: 0x8000_0001, patternIndex: 2 }] },
    /selectors\[0\]\.pattern_index/,
  ],
  ['pattern index', { ruleSets: [{ id: 4, patternIndexes: [2] }] }, /rule_sets\[0\]/],
  ['pattern order', { ruleSets: [{ id: 4, patternIndexes: [1, 0] }] }, /rule_sets\[0\]/],
  ['rule set twice', { ruleSets: [{ id: 4 }, { id: 4 }] }, /an id stands twice/],
  ['policy id', { policies: [{ id: 0 }] }, /policies\[0\]\.id/],
  ['policy twice', { policies: [{ id: 9 }, { id: 9 }] }, /policies\[1\]\.id/],
  [
    'server address',
    { policies: [{ id: 9, servers: [{ protocol: 17, ruleSetId: 4 }] }] },
    /servers\[0\]\.server/,
  ],
  [
    'server protocol',
    { policies: [{ id: 9, servers: [{ server: address16, protocol: 1, ruleSetId: 4 }] }] },
    /protocol is 1/,
  ],
  [
    'server rule set',
    { policies: [{ id: 9, servers: [{ server: address16, protocol: 6, ruleSetId: 5 }] }] },
    /rule_set_id names no rule set/,
  ],
  ['trusted server', { trustedServers: [new Uint8Array(4)] }, /trusted_servers\[0\]/],
  ['prefix address', { neverLearn: [{ bits: 8 }] }, /never_learn\[0\]\.address/],
  ['backend address', { backendDigests: [{ digest: 1 }] }, /backend_digests\[0\]\.address/],
  ['prefix length', { neverLearn: [{ address: address16, bits: 129 }] }, /bits is 129/],
];

for (const [what, change, error] of broken) {
  test(`refused: ${what}`, () => {
    const decoded = decodePolicySnapshot(PolicySnapshot.encode({ ...validSnapshot(), ...change }));
    assert.ok(!decoded.ok);
    assert.match(decoded.error, error);
  });
}
