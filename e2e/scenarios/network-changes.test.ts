// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Somebody removes what the agent made in the network stack: it is back before pods notice much. */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { askDns } from '@tandem/testing/dns-query';
import { waitFor } from '@tandem/testing/wait';
import { clusterDns4, type StandardNode, startStandardNode } from '../kit/standard-node.ts';

const withinMs = 200;
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
