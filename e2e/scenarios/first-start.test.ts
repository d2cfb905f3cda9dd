// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The agent starts for the first time on a node whose pods run already. What policy allows loses no packet: an
 * address is known before the programs come to its interface, and the judge comes last (ADR 12).
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { askDns } from '@tandem/testing/dns-query';
import { DnsServer } from '@tandem/testing/dns-server';
import { createNode, type TestNode } from '@tandem/testing/netns';
import { Probe } from '@tandem/testing/probe';
import {
  dnsPolicy,
  manyCidrs,
  namespaceObject,
  networkPolicy,
  nodeObjects,
  podObject,
  serviceObjects,
} from '../kit/objects.ts';
import { clusterDns4, standardRules } from '../kit/standard-node.ts';
import { TandemNode } from '../kit/tandem-node.ts';

/** A policy of this size is written to the kernel for a while, and pods speak meanwhile. */
const cidrs = 15_000;
/** Packets a second, and of one round: half of them of each family. */
const rate = 400;
const startTimeoutMs = 120_000;
const udpPort = 9001;

for (const kind of ['ptp', 'bridge'] as const) {
  test(`no packet between running pods (${kind}) and no DNS query of a pod is lost while the agent starts for the first time with ${cidrs} CIDRs`, async () => {
    await using node = await createNode({
      pods: [{ name: 'a', kind }, { name: 'b', kind }, { name: 'client', kind }, { name: 'dns' }],
      kubeProxy: 'iptables',
    });
    const tandem = await prepare(node);
    // One for each family: a probe sends one stream after the other.
    const senders = [0, 1].map(() => node.own(Probe.start(node.pod('a').namespace)));
    const receiver = node.own(Probe.start(node.pod('b').namespace));
    const client = node.own(Probe.start(node.pod('client').namespace));
    for (const address of ['0.0.0.0', '::']) {
      await receiver.listen({ protocol: 'udp', address, port: udpPort, mode: 'sink' });
    }
    await using arriving = await receiver.capture({ contains: 'first-start' });

    // Neighbours are resolved before anything is counted.
    const { ipv4, ipv6 } = node.pod('b');
    const sendAll = async (perSecond: number, seconds: number): Promise<{ sent: number }> => {
      const rounds = [ipv4, ipv6].map(async (to, i) => {
        const load = { rate: perSecond / 2, count: (perSecond / 2) * seconds };
        const datagram = { to: to ?? '', port: udpPort, data: 'first-start' };
        return (await senders[i]?.blast({ ...datagram, ...load }))?.sent ?? 0;
      });
      return { sent: (await Promise.all(rounds)).reduce((sum, sent) => sum + sent, 0) };
    };
    await sendAll(200, 0.1);
    const { matched: before } = await arriving.captured();

    const running = new AbortController();
    const sending = sendUntil(running.signal, () => sendAll(rate, 1));
    const asking = askUntil(running.signal, client);
    try {
      await tandem.startProcess('agent');
      await tandem.waitForMembers(['agent'], startTimeoutMs);
    } finally {
      running.abort();
    }
    const sent = await sending;
    const { asked, unanswered } = await asking;
    const { matched, dropped } = await arriving.captured();
    const drops = Object.entries(tandem.counters()).filter(
      ([name, count]) => name.startsWith('drop_') && count > 0,
    );
    assert.equal(dropped, 0, 'the capture saw every frame');
    assert.equal(sent - (matched - before), 0, `of ${sent} lost; ${JSON.stringify(drops)}`);
    assert.deepEqual(unanswered, [], `of ${asked} queries; ${JSON.stringify(drops)}`);
    assert.ok(asked > 0);
  });
}

async function prepare(node: TestNode): Promise<TandemNode> {
  const dns = node.pod('dns').ipv4 ?? '';
  const services = (['udp', 'tcp'] as const).map((protocol) => ({
    clusterIp: clusterDns4,
    port: 53,
    protocol,
    backends: [{ address: dns, port: 53 }],
  }));
  await node.setServices(services);
  node.own(
    await DnsServer.start(node.pod('dns').namespace, { addresses: [dns], rules: standardRules }),
  );
  const tandem = await TandemNode.create(node);
  const allowed = [{ matchPattern: '*.allowed.test' }];
  tandem.write('cluster.yaml', [
    namespaceObject('default'),
    namespaceObject('kube-system'),
    ...nodeObjects(),
    ...serviceObjects('kube-dns', 'kube-system', services),
  ]);
  tandem.write(
    'pods.yaml',
    node.pods.map((pod) =>
      podObject(
        pod,
        pod.name === 'dns' ? { namespace: 'kube-system', labels: { 'k8s-app': 'kube-dns' } } : {},
      ),
    ),
  );
  tandem.write('policy.yaml', [
    networkPolicy({
      name: 'a',
      selects: { app: 'a' },
      egress: [{ toEndpoints: [{ matchLabels: { app: 'b' } }] }, ...manyCidrs(cidrs)],
    }),
    networkPolicy({
      name: 'b',
      selects: { app: 'b' },
      ingress: [{ fromEndpoints: [{ matchLabels: { app: 'a' } }] }],
    }),
    dnsPolicy({ name: 'client', selects: { app: 'client' }, dns: allowed, fqdns: allowed }),
  ]);
  return tandem;
}

/** Rounds of a second, until the signal and one more; gives how many packets were sent. */
async function sendUntil(
  signal: AbortSignal,
  round: () => Promise<{ readonly sent: number }>,
): Promise<number> {
  let sent = 0;
  for (let isLast = false; !isLast; ) {
    isLast = signal.aborted;
    // oxlint-disable-next-line no-await-in-loop -- one round after the other
    sent += (await round()).sent;
  }
  return sent;
}

/** One query after the other. A resolver asks again after 5 s: what is lost within 2 s is lost. */
async function askUntil(
  signal: AbortSignal,
  client: Probe,
): Promise<{ readonly asked: number; readonly unanswered: readonly string[] }> {
  const unanswered: string[] = [];
  let asked = 0;
  while (!signal.aborted) {
    const name = `n-${asked % 60_000}.allowed.test`;
    asked += 1;
    // oxlint-disable-next-line no-await-in-loop -- a steady question, no load
    const answer = await askDns(client, { server: clusterDns4, name, timeoutMs: 2000 }).catch(
      String,
    );
    if (typeof answer === 'string') unanswered.push(`${name}: ${answer}`);
    else if (answer.rcode !== 'NOERROR') unanswered.push(`${name}: ${answer.rcode}`);
  }
  return { asked, unanswered };
}
