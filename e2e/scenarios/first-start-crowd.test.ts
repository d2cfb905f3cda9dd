// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The agent starts for the first time on a node with more pods behind a bridge than get their programs at once. Meanwhile they lose
 * nothing to each other, to a machine behind a trusted port and to DNS; nor if the agent is killed in between.
 */

import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { tcxPinsMax } from '@tandem/bpf-loader-node/link-pins';
import { removePins } from '@tandem/datapath/datapath';
import { pinPaths } from '@tandem/datapath/paths';
import { askDns } from '@tandem/testing/dns-query';
import { DnsServer } from '@tandem/testing/dns-server';
import { Namespace } from '@tandem/testing/namespace';
import { createNode, type TestNode } from '@tandem/testing/netns';
import { plan } from '@tandem/testing/node-plan';
import { Probe } from '@tandem/testing/probe';
import { waitFor } from '@tandem/testing/wait';
import { canConnect } from '../kit/attack.ts';
import { BpfFaults } from '../kit/bpf-faults.ts';
import {
  dnsPolicy,
  namespaceObject,
  networkPolicy,
  nodeObjects,
  podObject,
  serviceObjects,
} from '../kit/objects.ts';
import { clusterDns4, standardRules } from '../kit/standard-node.ts';
import { TandemNode } from '../kit/tandem-node.ts';

const count = tcxPinsMax + 6;
const names = Array.from({ length: count }, (_, at) => `p${at}`);
/** Pods of the first part and of the last, in whatever order they come. */
const speakers = [names[0], names[count >> 1], names[count - 1], 'lan0'] as readonly string[];
const deniedAddress = '203.0.113.9';
/** On the link of the bridge, outside of the pods' prefix: policy names it as an address of the world. */
const machineAddress = '172.31.0.240';
const tcpPort = 9000;
const udpPort = 9001;
const startTimeoutMs = 60_000;
/** Packets a second, from each speaker to the next and to the one before. */
const rate = 200;

let node: TestNode;
let tandem: TandemNode;
let bpf: BpfFaults;
let machine: Namespace;
const probes = new Map<string, Probe>();
const probeOf = (name: string): Probe => probes.get(name) ?? assert.fail(name);
const addressOf = (name: string): string =>
  name === 'lan0' ? machineAddress : (node.pod(name).ipv4 ?? '');

before(async () => {
  machine = await Namespace.create('lan0');
  node = await createNode({
    pods: [
      ...names.map((name) => ({ name, kind: 'bridge' as const })),
      { name: 'client', kind: 'bridge' },
      { name: 'dns' },
    ],
    kubeProxy: 'iptables',
  });
  await node.node.ip([
    `link add lan0 type veth peer name eth0 netns ${machine.name}`,
    `link set lan0 master ${plan.bridge} up`,
  ]);
  await machine.ip([
    ...['link set eth0 up', `addr add ${machineAddress}/32 dev eth0`],
    'route add 10.1.2.0/24 dev eth0',
  ]);
  const internet = node.own(Probe.start(node.upstream));
  await internet.listen({ protocol: 'tcp', address: '0.0.0.0', port: 80 });
  for (const name of [...speakers, 'client']) {
    const namespace = name === 'lan0' ? machine : node.pod(name).namespace;
    if (name !== 'lan0') await namespace.ip([`route add ${machineAddress} dev eth0`]);
    const probe = node.own(Probe.start(namespace));
    await probe.listen({ protocol: 'tcp', address: '0.0.0.0', port: tcpPort });
    await probe.listen({ protocol: 'udp', address: '0.0.0.0', port: udpPort, mode: 'sink' });
    probes.set(name, probe);
  }
  tandem = await prepare();
});
after(async () => {
  await node[Symbol.asyncDispose]();
  await machine[Symbol.asyncDispose]();
});

async function prepare(): Promise<TandemNode> {
  const dns = node.pod('dns').ipv4 ?? '';
  const services = (['udp', 'tcp'] as const).map((protocol) => ({
    ...{ clusterIp: clusterDns4, port: 53, protocol },
    backends: [{ address: dns, port: 53 }],
  }));
  await node.setServices(services);
  node.own(
    await DnsServer.start(node.pod('dns').namespace, { addresses: [dns], rules: standardRules }),
  );
  const made = await TandemNode.create(node, {
    agentOptions: { 'trusted-interfaces': 'lan0' },
    environment: () => bpf.environment,
  });
  bpf = new BpfFaults(made.directory);
  const allowed = [{ matchPattern: '*.allowed.test' }];
  made.write('cluster.yaml', [
    namespaceObject('default'),
    namespaceObject('kube-system'),
    ...nodeObjects(),
    ...serviceObjects('kube-dns', 'kube-system', services),
    ...node.pods.map((pod) =>
      podObject(
        pod,
        pod.name === 'dns' ? { namespace: 'kube-system', labels: { 'k8s-app': 'kube-dns' } } : {},
      ),
    ),
    ...names.map((name) =>
      networkPolicy({
        ...{ name, selects: { app: name } },
        ingress: [{ fromCIDR: [`${machineAddress}/32`] }, { fromEndpoints: [{}] }],
        egress: [{ toCIDR: [`${machineAddress}/32`] }, { toEndpoints: [{}] }],
      }),
    ),
    dnsPolicy({ name: 'client', selects: { app: 'client' }, dns: allowed, fqdns: allowed }),
  ]);
  return made;
}

/** Each speaks to the next and to the one before, in a ring. */
const pairs = speakers.flatMap((from, at) =>
  [1, speakers.length - 1].map(
    (step) => [from, speakers.at((at + step) % speakers.length)!] as const,
  ),
);

async function forget(): Promise<void> {
  for (const name of speakers) {
    const namespace = name === 'lan0' ? machine : node.pod(name).namespace;
    await namespace.ip(['neigh flush all']);
  }
}

const programs = (): readonly string[] => {
  const { links } = pinPaths(tandem.pinRoot);
  return existsSync(links) ? readdirSync(links) : [];
};

async function assertOpen(when: string): Promise<void> {
  await forget();
  for (const [from, to] of pairs) {
    // The first SYN may wait for ARP longer than it is given.
    await waitFor(() => canConnect(probeOf(from), addressOf(to), tcpPort), {
      what: `${from} to ${to} ${when}: ${JSON.stringify(tandem.counters())}`,
    });
  }
}

async function assertEnforced(): Promise<void> {
  for (const name of speakers) {
    if (name === 'lan0') continue;
    assert.equal(await canConnect(probeOf(name), deniedAddress), false, name);
  }
}

for (const nth of [tcxPinsMax >> 1, tcxPinsMax + 4, 8]) {
  test(`an agent that is killed at link ${nth} of a first start cuts off nobody`, async () => {
    const earlier = programs().length;
    bpf.set({ command: 'LINK_CREATE', nth, how: 'KILL' });
    const running = await tandem.startProcess('agent');
    await running.exited;
    const made = programs();
    assert.ok(made.length > earlier, running.stderr());
    assert.ok(made.filter((name) => /^(?:from|to)_pod_/.test(name)).length < 2 * count);
    assert.deepEqual(
      made.filter((name) => name.startsWith('judge')),
      [],
    );
    await assertOpen('after the kill');
    assert.ok(await canConnect(probeOf(speakers[0]!), deniedAddress), 'nothing is enforced');
  });
}

test('the start that goes on from there loses no packet and no DNS query, and enforces', async () => {
  // As on a node where no agent ran.
  for (const name of programs()) assert.doesNotMatch(name, /^judge/);
  bpf.set(null);
  await loseNothing();
  await assertOpen('under policy');
  await assertEnforced();
});

test('nor does a first start on a node without pins', async () => {
  await tandem.kill('agent');
  removePins(tandem.pinRoot);
  await loseNothing();
  await assertOpen('under policy');
  await assertEnforced();
});

async function loseNothing(): Promise<void> {
  const captures = await Promise.all(
    pairs.map(async ([from, to]) =>
      node.own(await probeOf(to).capture({ contains: `<${from} ${to}>` })),
    ),
  );
  await forget();
  const running = new AbortController();
  const sent = pairs.map(() => 0);
  const sending = speakers.map(async (from) => {
    while (!running.signal.aborted) {
      for (const [at, [who, to]] of pairs.entries()) {
        if (who !== from) continue;
        const datagram = { to: addressOf(to), port: udpPort, data: `<${from} ${to}>` };
        const result = await probeOf(from).blast({ ...datagram, rate, count: rate / 10 });
        sent[at]! += result.sent;
      }
    }
  });
  const unanswered: string[] = [];
  let asked = 0;
  const asking = (async (): Promise<void> => {
    while (!running.signal.aborted) {
      const name = `n-${asked % 60_000}.allowed.test`;
      asked += 1;
      const options = { server: clusterDns4, name, timeoutMs: 2000 };
      const answer = await askDns(probeOf('client'), options).catch(String);
      if (typeof answer === 'string') unanswered.push(`${name}: ${answer}`);
      else if (answer.rcode !== 'NOERROR') unanswered.push(`${name}: ${answer.rcode}`);
    }
  })();
  try {
    await tandem.startProcess('agent');
    await tandem.waitForMembers(['agent'], startTimeoutMs);
    await waitFor(() => programs().some((name) => name.startsWith('judge')), { what: 'judge' });
  } finally {
    running.abort();
    await Promise.all([...sending, asking]);
  }
  const drops = JSON.stringify(tandem.counters());
  for (const [at, [from, to]] of pairs.entries()) {
    const capture = captures[at] ?? assert.fail();
    await capture.captured({ count: sent[at] ?? 0 }).catch(() => null);
    const { matched, dropped } = await capture.captured();
    assert.equal(dropped, 0, 'the capture saw every frame');
    assert.equal(matched, sent[at], `${from} to ${to}: ${drops}`);
  }
  assert.ok(asked > 0);
  assert.deepEqual(unanswered, [], `of ${asked} queries; ${drops}`);
}
