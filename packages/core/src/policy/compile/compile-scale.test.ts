// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { clusterOf, node } from '../../../test/cluster-fixture.ts';
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
