// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A snapshot and back: an agent that starts knows what its former run had put in force. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { patternFromCanonical } from '@tandem/core/dns/pattern';
import type { NamespaceId, PolicyId } from '@tandem/core/ids';
import { parseAddress } from '@tandem/core/net/ip';
import type { MemberPolicy } from '@tandem/core/policy/model/desired';
import { decodePolicySnapshot, encodePolicySnapshot } from '@tandem/proto/snapshot';
import { runTask } from '@tandem/runtime/task';
import { memberPolicyOf, SnapshotEncoder, snapshotOf } from './snapshot.ts';

const address = (text: string): Uint8Array => parseAddress(text) as Uint8Array;
const pattern = (text: string, context: 'rules.dns' | 'toFQDNs') => {
  const found = patternFromCanonical(text, context);
  assert.ok(found !== null, text);
  return found;
};

const [policyId, otherPolicyId] = [3, 4] as [PolicyId, PolicyId];
const policy: MemberPolicy = {
  revision: 7,
  endpoints: [
    {
      ...{ address: address('10.1.0.11'), endpointId: 1, policyId, namespaceId: 2 as NamespaceId },
      ...{ namespace: 'default', pod: 'client' },
    },
  ],
  patterns: [pattern('*.a.test.', 'rules.dns'), pattern('b.test.', 'toFQDNs')],
  selectors: [{ id: 0x8000_0001, patternIndex: 1, policyId }],
  ruleSets: [{ id: 5, patternIndexes: [0], matchAll: false }],
  policies: [
    {
      id: policyId,
      servers: [{ server: address('10.96.0.10'), protocol: 17, ruleSetId: 5 }],
      predecessors: [7, 6] as PolicyId[],
      fqdnPatterns: [1],
    },
    { id: otherPolicyId, servers: [], predecessors: [], fqdnPatterns: [] },
  ],
  trustedServers: [address('10.96.0.10')],
  neverLearn: [{ address: address('10.1.0.0'), bits: 112 }],
  backendDigests: [{ address: address('10.96.0.10'), digest: 0xfedc_ba98 }],
};

test('what is written is what is read', () => {
  const encoded = encodePolicySnapshot(snapshotOf(policy, 'node-1', 1));
  assert.ok(encoded.ok);
  const decoded = decodePolicySnapshot(encoded.value);
  assert.ok(decoded.ok);
  const read = memberPolicyOf(decoded.value);
  const again = encodePolicySnapshot(snapshotOf(read, 'node-1', 1));
  assert.ok(again.ok);
  assert.deepEqual(again.value, encoded.value);
  assert.deepEqual(read.patterns, policy.patterns);
  assert.equal(read.backendDigests[0]?.digest, 0xfedc_ba98);
});

test('a pattern that is not canonical stays what it is: members leave it out, and it alone', () => {
  const encoded = encodePolicySnapshot(snapshotOf(policy, 'node-1', 1));
  assert.ok(encoded.ok);
  const decoded = decodePolicySnapshot(encoded.value);
  assert.ok(decoded.ok);
  const [first, ...others] = decoded.value.patterns;
  assert.ok(first !== undefined);
  const patterns = [{ ...first, text: 'not..canonical' }, ...others];
  const read = memberPolicyOf({ ...decoded.value, patterns });
  assert.deepEqual(
    read.patterns.map(({ text }) => text),
    ['not..canonical', 'b.test.'],
  );
  assert.equal(read.policies.length, policy.policies.length);
});

test('snapshots that follow each other are what each alone would be; patterns are compiled once', async () => {
  let compiled = 0;
  const encoder = new SnapshotEncoder((patterns) => {
    compiled += 1;
    return Promise.resolve({ compiledMatcher: Buffer.from(`of ${patterns.length}`), rejected: [] });
  });
  const check = async (each: MemberPolicy): Promise<void> => {
    const { snapshot } = await runTask(encoder.encode(each, 'node-1', 1));
    const compiledMatcher = Buffer.from(`of ${each.patterns.length}`);
    const alone = encodePolicySnapshot({ ...snapshotOf(each, 'node-1', 1), compiledMatcher });
    assert.ok(alone.ok);
    const decoded = decodePolicySnapshot(snapshot);
    assert.ok(decoded.ok);
    assert.deepEqual(encodePolicySnapshot(decoded.value), alone);
  };
  await check(policy);
  const endpoints = policy.endpoints.map((each) => ({ ...each, policyId: otherPolicyId }));
  await check({ ...policy, revision: 8, endpoints });
  assert.equal(compiled, 1);
  await check({ ...policy, patterns: policy.patterns.slice(), selectors: [] });
  assert.equal(compiled, 2);
  await check({ ...policy, neverLearn: [], trustedServers: [], backendDigests: [] });
});
