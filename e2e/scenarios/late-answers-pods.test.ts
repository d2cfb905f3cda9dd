// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Replies that come after pods or members have changed (rule 18): a pod that stays gets every one, whatever else changes, and those of a
 * pod that is gone are withheld, also by a member that takes its queries over or begins again.
 */

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { encodeQuestion } from '@tandem/testing/dns-query';
import { Probe } from '@tandem/testing/probe';
import { waitFor } from '@tandem/testing/wait';
import { goOn } from '../kit/attack.ts';
import { bothCount, countOf, waitForCount } from '../kit/dns-counters.ts';
import { endpointOf } from '../kit/endpoints.ts';
import { dnsPolicy, type PodObject, podObject } from '../kit/objects.ts';
import { clusterDns4, clusterDns6, startStandardNode } from '../kit/standard-node.ts';
import type { ProcessName } from '../kit/tandem-node.ts';

const delayMs = 2500;
/** Time for the next pod to be known. */
const longDelayMs = 6000;
const queriesPerPod = 12;
const goneAddress = '10.1.0.79';
const asClient: PodObject = { labels: { app: 'client' } };
const dnsObject: PodObject = { namespace: 'kube-system', labels: { 'k8s-app': 'kube-dns' } };
const all: readonly ProcessName[] = ['agent', 'proxy'];

const policyWith = (name: string): object =>
  dnsPolicy({
    selects: { app: 'client' },
    dns: [{ matchPattern: '*.slow.test' }, { matchPattern: '*.late.test' }, { matchName: name }],
    fqdns: [{ matchPattern: '*.slow.test' }],
  });

const { node, tandem, ...standard } = await startStandardNode({
  pods: [
    { name: 'ptp', kind: 'ptp' },
    { name: 'bridged', kind: 'bridge' },
    { name: 'other' },
    { name: 'gone', kind: 'ptp', ipv4: goneAddress },
  ],
  podObjects: { ptp: asClient, bridged: asClient, gone: asClient },
  policies: [policyWith('before.test')],
  rules: (
    [
      ['slow.test', delayMs],
      ['late.test', longDelayMs],
    ] as const
  ).map(([suffix, ms]) => ({
    suffix,
    answers: [{ type: 'A', data: '198.18.0.7' }],
    replies: [{ delayMs: ms }],
  })),
});
after(() => standard[Symbol.asyncDispose]());
const staying = ['ptp', 'bridged'].map((name) => node.own(Probe.start(node.pod(name).namespace)));
let asked = 0;

/** Replies without error to queries of both pods that stay, with `change` while they are in flight. */
async function answeredDuring(server: string, change: () => Promise<void>): Promise<number> {
  const replies = staying.flatMap((probe) =>
    Array.from({ length: queriesPerPod }, async () => {
      const data = encodeQuestion({ server, name: `q-${asked++}.slow.test` });
      const result = await probe.udp({ to: server, port: 53, data, timeoutMs: 9000 }).catch(goOn);
      return ((result?.replies[0]?.data[3] ?? 15) & 15) === 0;
    }),
  );
  await sleep(200);
  await change();
  return (await Promise.all(replies)).filter(Boolean).length;
}

const objectOf = (pod: (typeof node.pods)[number]): object =>
  podObject(pod, pod.name === 'dns' ? dnsObject : asClient);

for (const server of [clusterDns4, clusterDns6]) {
  test(`labels, policy, the other address and other pods change, and no reply of ${server} is lost`, async () => {
    const before = await bothCount(tandem, 'repliesToGonePods');
    const isIpv4 = server === clusterDns4;
    const change = async (): Promise<void> => {
      const other = isIpv4 ? 'other' : 'another';
      await node.removePod(other);
      await node.addPod({
        name: isIpv4 ? 'another' : 'other',
        ipv4: '10.1.0.90',
        ipv6: 'fd00:1::90',
      });
      tandem.write(
        'pods.yaml',
        node.pods.map((pod) => {
          if (!['ptp', 'bridged'].includes(pod.name)) return objectOf(pod);
          const without = isIpv4 ? { ipv6: null } : { ipv4: null };
          return podObject({ ...pod, ...without }, { labels: { app: 'client', for: server } });
        }),
      );
      tandem.write('policy.yaml', [policyWith(`after-${other}.test`)]);
    };
    assert.equal(await answeredDuring(server, change), staying.length * queriesPerPod);
    assert.equal(await bothCount(tandem, 'repliesToGonePods'), before);
  });
}

test('the agent dies and begins again, and no reply is lost', async () => {
  tandem.write('pods.yaml', node.pods.map(objectOf));
  const addresses = ['ptp', 'bridged'].map((name) => node.pod(name).ipv4 ?? '');
  await waitFor(() => addresses.every((address) => endpointOf(tandem, address) !== null), {
    what: 'both pods to have both addresses',
  });
  const change = async (): Promise<void> => {
    await tandem.kill('agent');
    await tandem.startProcess('agent');
  };
  assert.equal(await answeredDuring(clusterDns4, change), staying.length * queriesPerPod);
  await tandem.waitForMembers(all);
  assert.equal(await bothCount(tandem, 'repliesToGonePods'), 0);
});

for (const [dead, name, next] of [
  [['proxy'], 'gone', 'next'],
  [all, 'next', 'last'],
] as const) {
  test(`a pod is gone when ${dead.join(' and ')} begins again, and its replies are withheld`, async () => {
    const token = `late-for-${name}`;
    const queries = 16;
    const former = Probe.start(node.pod(name).namespace);
    const ask = (_: unknown, i: number): Promise<unknown> => {
      const data = encodeQuestion({ server: clusterDns4, name: `${token}-${i}.late.test` });
      return former.udp({ to: clusterDns4, port: 53, data, timeoutMs: 200 }).catch(goOn);
    };
    await Promise.all(Array.from({ length: queries }, ask));
    await former[Symbol.asyncDispose]();
    await Promise.all(dead.map((process) => tandem.kill(process)));
    await node.removePod(name);
    const fresh = await node.addPod({ name: next, kind: 'ptp', ipv4: goneAddress });
    await using probe = Probe.start(fresh.namespace);
    const arrived = await probe.capture({ contains: token });
    tandem.write('pods.yaml', node.pods.map(objectOf));
    const before = dead.length === 1 ? await countOf(tandem, 'agent', 'repliesToGonePods') : 0;
    for (const process of dead) await tandem.startProcess(process);
    await tandem.waitForMembers(all);
    await waitFor(() => endpointOf(tandem, goneAddress)?.ifindex === fresh.hostIfindex, {
      what: 'the next pod to be known',
    });
    // Two that begin again may take longer than a query may be old.
    if (dead.length === 1) await waitForCount(tandem, 'repliesToGonePods', before + queries);
    else await sleep(longDelayMs + 500);
    assert.equal((await arrived.captured()).matched, 0);
  });
}
