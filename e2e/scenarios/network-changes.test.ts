// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Somebody removes what the agent made in the network stack: it is back before pods notice much. And while
 * nothing changes, neither process starts a program: each costs a fork of a large process.
 */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { askDns } from '@tandem/testing/dns-query';
import { waitFor } from '@tandem/testing/wait';
import { childFaults } from '../kit/child-faults.ts';
import { clusterDns4, type StandardNode, startStandardNode } from '../kit/standard-node.ts';

const withinMs = 200;
/** Two rounds of the reconciliation, which is made every 5 s. */
/** Over the time in which the agent looks at a change of its own. */
const settledMs = 1000;
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

const table = ['list', 'table', 'inet', 'tandem'];
const deletions: readonly (readonly [
  command: readonly string[],
  look: readonly string[],
  part: RegExp,
])[] = [
  [['ip', 'rule', 'del', 'pref', '9', 'ipproto', 'udp'], ['ip', 'rule'], /ipproto udp dport 10053/],
  [
    ['ip', '-6', 'rule', 'del', 'pref', '9', 'ipproto', 'tcp'],
    ['ip', '-6', 'rule'],
    /ipproto tcp dport 10053/,
  ],
  [
    ['ip', 'route', 'flush', 'table', '2077'],
    ['ip', 'route', 'show', 'table', '2077'],
    /local default/,
  ],
  [['nft', 'delete', 'table', 'inet', 'tandem'], ['nft', ...table], /ct state invalid/],
  [
    ['nft', 'flush', 'chain', 'inet', 'tandem', 'untrack_steered'],
    ['nft', ...table],
    /mark.*notrack/,
  ],
];

for (const [command, look, part] of deletions) {
  test(`${command.join(' ')}: back within ${withinMs} ms`, async () => {
    const { node } = standard.node;
    const [program = '', ...args] = command;
    await node.run(program, args);
    const since = performance.now();
    const [lookProgram = '', ...lookArgs] = look;
    const what = 'what was deleted';
    await waitFor(async () => part.test(await node.run(lookProgram, lookArgs)), { what });
    const tookMs = performance.now() - since;
    assert.ok(tookMs < withinMs, `${tookMs} ms`);
    assert.ok(await isAnswered());
  });
}

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
