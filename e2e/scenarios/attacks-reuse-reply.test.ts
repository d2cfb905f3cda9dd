// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A pod asks, ends, and another pod gets its address before the answer comes (rule 18). `judge` lets replies of members through,
 * so a member must not send this one: the owner of the old pod and of its DNS server would choose what reaches the new pod.
 */

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { askDns } from '@tandem/testing/dns-query';
import { Probe } from '@tandem/testing/probe';
import { waitFor } from '@tandem/testing/wait';
import { goOn } from '../kit/attack.ts';
import { bothCount, waitForCount } from '../kit/dns-counters.ts';
import { endpointOf } from '../kit/endpoints.ts';
import { podObject } from '../kit/objects.ts';
import { clusterDns4, standardRules, startStandardNode } from '../kit/standard-node.ts';

const token = 'for-the-old-pod';
const name = `${token}.allowed.test`;
const delayMs = 6000;
const ipv4 = '10.1.0.79';
const asClient = { labels: { app: 'client' } };
const dnsObject = { namespace: 'kube-system', labels: { 'k8s-app': 'kube-dns' } };

const standard = await startStandardNode({
  pods: [{ name: 'old', kind: 'ptp', ipv4 }],
  podObjects: { old: asClient },
  rules: [
    { suffix: name, answers: [{ type: 'A', data: '198.18.0.7' }], replies: [{ delayMs }] },
    ...standardRules,
  ],
});
after(() => standard[Symbol.asyncDispose]());

test('a reply that comes late does not reach the pod that has the address by then', async () => {
  const { node, tandem, dns } = standard;
  const before = await bothCount(tandem, 'repliesToGonePods');
  const old = Probe.start(node.pod('old').namespace);
  const askedMs = performance.now();
  await askDns(old, { server: clusterDns4, name, timeoutMs: 300 }).catch(goOn);
  assert.equal((await dns.queries(name)).length, 1);
  await old[Symbol.asyncDispose]();
  await node.removePod('old');
  const fresh = await node.addPod({ name: 'fresh', kind: 'ptp', ipv4 });
  const probe = node.own(Probe.start(fresh.namespace));
  const arrived = node.own(await probe.capture({ contains: token }));
  const objectOf = (pod: (typeof node.pods)[number]): object =>
    podObject(pod, pod.name === 'dns' ? dnsObject : undefined);
  tandem.write('pods.yaml', node.pods.map(objectOf));
  await waitFor(() => endpointOf(tandem, ipv4)?.ifindex === fresh.hostIfindex, {
    what: 'the new pod to be known',
  });
  const leftMs = delayMs - (performance.now() - askedMs);
  assert.ok(leftMs > 0, 'the answer has not come yet');
  await waitForCount(tandem, 'repliesToGonePods', before + 1);
  await sleep(300);
  assert.equal((await arrived.captured()).matched, 0);
});
