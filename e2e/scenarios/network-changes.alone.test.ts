// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Somebody removes what the agent made in the network stack: it is back before pods notice much. And an interface that comes
 * is noticed as soon.
 */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { askDns } from '@tandem/testing/dns-query';
import { waitFor } from '@tandem/testing/wait';
import { counterOf, degradedOf, endpointsOf } from '../kit/admin.ts';
import { endpointOf } from '../kit/endpoints.ts';
import { podObject } from '../kit/objects.ts';
import { clusterDns4, type StandardNode, startStandardNode } from '../kit/standard-node.ts';

const withinMs = 200;
/** The agent lists all interfaces every 5 s even without a notice: five pods in a row do not meet that round by chance. */
const attachedWithinMs = 1500;
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
  test(`${command.join(' ')}: back within ${withinMs} ms`, async (t) => {
    const { node } = standard.node;
    const [program = '', ...args] = command;
    await node.run(program, args);
    const since = performance.now();
    const [lookProgram = '', ...lookArgs] = look;
    const what = 'what was deleted';
    await waitFor(async () => part.test(await node.run(lookProgram, lookArgs)), { what });
    const tookMs = performance.now() - since;
    // ./run bench reads it.
    t.diagnostic(`figure rules-back-ms ${tookMs}`);
    assert.ok(tookMs < withinMs, `${tookMs} ms`);
    assert.ok(await isAnswered());
  });
}

test('pods whose interfaces come after their objects are enforced at once, not with the next round', async (t) => {
  const { node, tandem } = standard;
  const late = Array.from({ length: 5 }, (_, i) => ({
    ...{ name: `late${i}`, ipv4: `10.1.0.${60 + i}`, ipv6: `fd00:1::${60 + i}` },
    hostInterface: `pod-late${i}`,
  }));
  tandem.write(
    'late.yaml',
    late.map((pod) => podObject(pod)),
  );
  const isMissed = async ({ name }: { readonly name: string }): Promise<boolean> => {
    const [listed] = await endpointsOf(tandem, 'agent', `default/${name}`);
    return listed?.problem.startsWith('interface-not-found') ?? false;
  };
  await waitFor(async () => (await Promise.all(late.map(isMissed))).every(Boolean), {
    what: 'the agent to miss the interfaces',
    state: () => tandem.logs(),
  });
  const tookMs: number[] = [];
  for (const { name, ipv4, ipv6 } of late) {
    const pod = await node.addPod({ name, ipv4, ipv6 });
    const since = performance.now();
    await waitFor(() => endpointOf(tandem, ipv4)?.ifindex === pod.hostIfindex, {
      what: `${name} to be an endpoint at its interface`,
    });
    tookMs.push(Math.round(performance.now() - since));
  }
  t.diagnostic(`ms: ${tookMs.join(', ')}`);
  assert.ok(Math.max(...tookMs) < attachedWithinMs, `${tookMs.join(', ')} ms`);
});

test('a program that removes everything again and again opens nothing, is counted and said, and leaves all in place when it ends', async (t) => {
  const { node: network, tandem, client } = standard;
  // Policy denies both addresses, because no pod has asked for a name that has them.
  const denied = ['198.19.0.77', '2001:db8:2::4d'];
  const connect = (to: string): Promise<string> =>
    client.tcp({ to, port: 80, timeoutMs: 300 }).then(
      () => `connected to ${to}`,
      () => 'dropped',
    );
  const quarrel = async (): Promise<void> => {
    await network.node.run('nft', ['delete', 'table', 'inet', 'tandem']).catch(() => '');
    await network.node.run('ip', ['rule', 'del', 'pref', '9']).catch(() => '');
    await network.node.run('ip', ['route', 'flush', 'table', '2077']).catch(() => '');
  };
  const isSaid = async (): Promise<boolean> => {
    const [found] = await Promise.all([degradedOf(tandem, 'agent'), quarrel()]);
    const outcomes = await Promise.all(denied.map(connect));
    assert.deepEqual(outcomes, ['dropped', 'dropped']);
    return found.has('network-rules');
  };
  await waitFor(isSaid, { what: 'the quarrel in the status', timeoutMs: 60_000 });
  const counters = ['table_restored', 'table_delayed', 'routing_restored'].map((each) =>
    counterOf(tandem, 'agent', `tandem_network_rules_${each}_total`),
  );
  const counts = await Promise.all(counters);
  t.diagnostic(`restored, delayed, routing restored: ${counts.join(', ')}`);
  const [restored = 0, , routing = 0] = counts;
  assert.ok(restored > 10 && routing > 10, counts.join());
  for (const [, look, part] of deletions) {
    const [program = '', ...args] = look;
    await waitFor(async () => part.test(await network.node.run(program, args).catch(() => '')), {
      what: look.join(' '),
    });
  }
  assert.ok(await isAnswered());
  assert.deepEqual(await Promise.all(denied.map(connect)), ['dropped', 'dropped']);
});
