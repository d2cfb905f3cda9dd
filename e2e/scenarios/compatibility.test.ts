// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Beside what policy cannot be enforced, the agent says so: in status and at /readyz. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Probe } from '@tandem/testing/probe';
import { waitFor } from '@tandem/testing/wait';
import { degradedOf, waitForDegraded, waitForMended } from '../kit/admin.ts';
import { startForeignProgram } from '../kit/foreign-program.ts';
import { networkPolicy } from '../kit/objects.ts';
import { type StandardNode, startStandardNode } from '../kit/standard-node.ts';

const metricsPort = 19_102;
const udpPort = 9001;
const tcpPort = 9000;
/** Packets a second of each pod. */
const rate = 200;
/** Looks of the watch and the time between them, and as much again. */
const watchMs = 40_000;

const agentOptions = { 'metrics-address': `127.0.0.1:${metricsPort}` };

/** "200 ok" or "503 what is wrong". */
async function readyz(host: Probe): Promise<string> {
  const { data } = await host.tcp({
    to: '127.0.0.1',
    port: metricsPort,
    data: 'GET /readyz HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n',
    untilEnd: true,
  });
  const text = Buffer.from(data).toString();
  return `${text.slice(9, 12)} ${text.slice(text.indexOf('\r\n\r\n') + 4).trim()}`;
}

/** Both pods send to each other until `isOver`, which is asked every second. */
async function talkUntil(
  { node }: StandardNode,
  [left, right]: readonly [Probe, Probe],
  isOver: () => Promise<boolean>,
): Promise<void> {
  const blast = { port: udpPort, data: 'compatibility', count: rate, rate };
  const [toLeft, toRight] = [node.pod('left').ipv4 ?? '', node.pod('right').ipv4 ?? ''];
  await waitFor(
    async () => {
      await Promise.all([
        left.blast({ ...blast, to: toRight }),
        right.blast({ ...blast, to: toLeft }),
      ]);
      return isOver();
    },
    { what: 'a change of judge-bypassed', timeoutMs: watchMs },
  );
}

test('pods whose packets another datapath delivers past netfilter: judge-bypassed, until judge sees them', async () => {
  await using standard = await startStandardNode({
    pods: [{ name: 'left' }, { name: 'right' }],
    policies: [
      networkPolicy({
        name: 'left',
        selects: { app: 'left' },
        egress: [{ toEndpoints: [{ matchLabels: { app: 'right' } }] }],
      }),
      networkPolicy({
        name: 'right',
        selects: { app: 'right' },
        egress: [{ toEndpoints: [{ matchLabels: { app: 'left' } }] }],
      }),
    ],
    agentOptions,
  });
  const { node, tandem } = standard;
  const [a, b, host] = [node.pod('left').namespace, node.pod('right').namespace, node.node].map(
    (namespace) => node.own(Probe.start(namespace)),
  ) as [Probe, Probe, Probe];
  for (const probe of [a, b]) {
    await probe.listen({ protocol: 'udp', address: '0.0.0.0', port: udpPort, mode: 'sink' });
  }
  const isBypassed = async (): Promise<boolean> =>
    (await degradedOf(tandem, 'agent')).has('judge-bypassed');
  await a.listen({ protocol: 'tcp', address: '0.0.0.0', port: tcpPort });
  assert.equal(await readyz(host), '200 ok');
  {
    const [left, right] = [node.pod('left').hostIfindex, node.pod('right').hostIfindex];
    await using _there = await startForeignProgram(node.node, left, right);
    await using _back = await startForeignProgram(node.node, right, left);
    const before = tandem.counters()['forwarded'];
    await using arriving = await b.capture({ contains: 'compatibility' });
    await talkUntil(standard, [a, b], async () => {
      // As the kubelet probes: what judge sees of the host does not hide it.
      await host.tcp({ to: node.pod('left').ipv4 ?? '', port: tcpPort, data: 'x', want: 1 });
      return isBypassed();
    });
    assert.match(await readyz(host), /^503 judge-bypassed: .*policy is NOT enforced/);
    assert.ok((await arriving.captured()).matched > rate, 'packets are delivered');
    assert.equal(tandem.counters()['forwarded'], before, 'and judge has seen none');
  }
  await talkUntil(standard, [a, b], async () => !(await isBypassed()));
  assert.equal(await readyz(host), '200 ok');
});

test('bridged pods without br_netfilter: bridge-netfilter of each family, with the fix, until the sysctl is set', async () => {
  await using standard = await startStandardNode({
    pods: [{ name: 'left', kind: 'bridge' }],
    node: { bridgeNetfilter: 0 },
    agentOptions,
  });
  const { node, tandem } = standard;
  const host = node.own(Probe.start(node.node));
  for (const [family, sysctl] of [
    ['ipv4', 'net.bridge.bridge-nf-call-iptables'],
    ['ipv6', 'net.bridge.bridge-nf-call-ip6tables'],
  ] as const) {
    const code = `bridge-netfilter-${family}`;
    assert.match(await waitForDegraded(tandem, 'agent', code), /reach each other without policy/);
    assert.match(await readyz(host), new RegExp(`^503 .*${code}: `, 's'));
    await node.node.run('sysctl', ['-qw', `${sysctl}=1`]);
    await waitForMended(tandem, 'agent', code);
  }
  assert.equal(await readyz(host), '200 ok');
});
