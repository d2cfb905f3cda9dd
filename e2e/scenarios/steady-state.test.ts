// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** While nothing changes, neither process starts a program: each costs a fork of a large process. */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { askDns } from '@tandem/testing/dns-query';
import { waitFor } from '@tandem/testing/wait';
import { childFaults } from '../kit/child-faults.ts';
import { clusterDns4, type StandardNode, startStandardNode } from '../kit/standard-node.ts';

/** Longer than the agent waits before it looks at a change of its own. */
const settledMs = 1000;
/** Two rounds of the reconciliation, which is made every 5 s. */
const steadyMs = 11_000;

let standard: StandardNode;
let nextName = 1;

before(async () => {
  standard = await startStandardNode();
});
after(() => standard[Symbol.asyncDispose]());

async function isAnswered(): Promise<boolean> {
  const name = `n-${nextName++}.allowed.test`;
  const { addresses } = await askDns(standard.client, { server: clusterDns4, name });
  return addresses.length > 0;
}

const faults = (): readonly number[] =>
  (['agent', 'proxy'] as const).map((name) => childFaults(standard.tandem.process(name).pid));

test('while nothing changes neither process starts a program', async () => {
  // Those that the last change started have ended: our own change of the table is looked at once more.
  let known: readonly number[] = [];
  let since = performance.now();
  await waitFor(
    () => {
      const now = faults();
      if (now.join() !== known.join()) since = performance.now();
      known = now;
      return performance.now() - since > settledMs;
    },
    { what: 'the last program to end' },
  );
  const until = performance.now() + steadyMs;
  let lost = 0;
  await waitFor(
    async () => {
      if (!(await isAnswered())) lost += 1;
      return performance.now() > until;
    },
    { what: 'the time to pass', timeoutMs: 2 * steadyMs },
  );
  assert.deepEqual(faults(), known);
  assert.equal(lost, 0);
});
