// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { basicObjects, clusterOf, cnp, dnsRule, node } from '../../../test/cluster-fixture.ts';
import { largeCluster } from '../../../test/scale-fixture.ts';
import { policyEntriesMax } from '../../limits.ts';
import { StableIds } from '../model/stable-ids.ts';
import { compile } from './compile.ts';
import { expandPolicy } from './expand.ts';

const cpuSecondsMax = 3;

test('500 pods, 200 policies and 10,000 patterns compile in bounded CPU time', (context) => {
  const cluster = clusterOf(largeCluster());
  const before = process.cpuUsage();
  const compiled = compile(cluster, { node, revision: 1 }, StableIds.empty());
  const used = process.cpuUsage(before);
  const seconds = (used.user + used.system) / 1e6;
  context.diagnostic(`${seconds.toFixed(2)} s of CPU`);
  assert(seconds < cpuSecondsMax, `${seconds} s of CPU`);
  assert.equal(compiled.fits, true);
  assert.deepEqual(compiled.diagnostics, []);
  const fqdnPatterns = compiled.members.patterns.filter(
    ({ context: place }) => place === 'toFQDNs',
  );
  assert.equal(fqdnPatterns.length, 10_000);
  const policies = [...compiled.policies.values()];
  const entries = policies.flatMap((policy) => expandPolicy(policy, compiled.classTable));
  assert(entries.length <= policyEntriesMax, `${entries.length} entries`);
});

test('one policy with 4,000 DNS servers and 4,000 names compiles in bounded CPU time', (context) => {
  const numbers = Array.from({ length: 4000 }, (_, i) => i);
  const dns = dnsRule(...numbers.map((i) => `n${i}.test`));
  const servers = numbers.map((i) => `100.64.${i >> 8}.${i & 255}/32`);
  const policy = cnp('shop/p', {
    endpointSelector: { matchLabels: { app: 'web' } },
    egress: [{ toPorts: dns }, { toCIDR: servers, toPorts: dnsRule('other.test') }],
  });
  const cluster = clusterOf([...basicObjects, policy]);
  const before = process.cpuUsage();
  const compiled = compile(cluster, { node, revision: 1 }, StableIds.empty());
  const used = process.cpuUsage(before);
  const seconds = (used.user + used.system) / 1e6;
  context.diagnostic(`${seconds.toFixed(2)} s of CPU`);
  assert(seconds < cpuSecondsMax, `${seconds} s of CPU`);
  assert.deepEqual(compiled.diagnostics, []);
  assert.equal(compiled.members.ruleSets.length, 2);
  assert.ok(compiled.dnsServers.length > numbers.length);
});
