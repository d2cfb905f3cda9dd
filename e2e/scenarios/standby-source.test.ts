// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * An agent that stands by has read the Kubernetes API: it is not ready when it cannot, and when it takes over nothing of what is
 * in force goes meanwhile, not what came while it stood by either.
 */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { askDns } from '@tandem/testing/dns-query';
import { waitFor } from '@tandem/testing/wait';
import { KubeApi } from '../kit/kube-api.ts';
import { startLoad } from '../kit/load.ts';
import {
  namespaceObject,
  networkPolicy,
  nodeObjects,
  podObject,
  serviceObjects,
} from '../kit/objects.ts';
import {
  clusterDns4,
  type StandardNode,
  standardPolicy,
  startStandardNode,
} from '../kit/standard-node.ts';
import { ask, Probes, type Second, startSecond, waitForAnswer } from '../kit/standing-by.ts';

const api = await KubeApi.start();
const probes = new Probes();
let standard: StandardNode;
let second: Second;

before(async () => {
  standard = await startStandardNode({
    agentOptions: { source: 'kubernetes', kubeconfig: api.kubeconfig },
    prepare: async (node) => {
      await api.connect(node);
      const services = ['udp', 'tcp'].map((protocol) => ({
        ...{ clusterIp: clusterDns4, port: 53, protocol: protocol as 'udp' | 'tcp' },
        backends: [{ address: node.pod('dns').ipv4 ?? '', port: 53 }],
      }));
      api.put(
        ...['default', 'kube-system'].map(namespaceObject),
        ...nodeObjects(),
        ...serviceObjects('kube-dns', 'kube-system', services),
        podObject(node.pod('client')),
        podObject(node.pod('dns'), { namespace: 'kube-system', labels: { 'k8s-app': 'kube-dns' } }),
        standardPolicy,
      );
    },
  });
});
after(async () => {
  await standard[Symbol.asyncDispose]();
  await api[Symbol.asyncDispose]();
  probes[Symbol.dispose]();
});

test('who cannot read the API stands by and is not ready, until it can', async () => {
  const { tandem, node } = standard;
  await api.disconnect();
  second = await startSecond(tandem, 'agent', probes);
  const says = (): boolean => second.running.stderr().includes('source-unreachable');
  await waitFor(says, { what: 'it to miss the API', timeoutMs: 20_000 });
  assert.equal(await ask(second.socket, 'readyz'), 'no starting');
  assert.equal(
    await ask(second.socket, 'livez'),
    'ok starting',
    'the API is no reason to be killed',
  );
  await api.connect(node);
  await waitForAnswer(second.socket, 'ok standby');
});

test('it takes over with what is in force, and what changed meanwhile', async () => {
  const { tandem, client, node } = standard;
  const reaches = (): Promise<boolean> =>
    client.tcp({ to: '198.19.0.1', port: 80, data: 'x', want: 1, timeoutMs: 300 }).then(
      () => true,
      () => false,
    );
  assert.ok(!(await reaches()));
  const cidr = {
    name: 'more',
    selects: { app: 'client' },
    egress: [{ toCIDR: ['198.19.0.0/16'] }],
  };
  api.put(networkPolicy(cidr));
  await waitFor(reaches, { what: 'the first agent to apply it', timeoutMs: 20_000 });
  const known = await askDns(client, { server: clusterDns4, name: 'n-1.allowed.test' });
  const open = await client.connect({ to: known.addresses[0] ?? '', port: 80, data: 'x', want: 1 });
  await using load = startLoad(node.pod('client').namespace, {
    server: clusterDns4,
    rate: 200,
    seconds: 8,
    nameFormat: 'n-%u.allowed.test',
    nameStart: 50_000,
    nameCount: 1000,
  });
  const first = tandem.process('agent');
  process.kill(first.pid, 'SIGTERM');
  await first.exited;
  tandem.adopt('agent', second.running);
  let failures = 0;
  await waitFor(
    async () => {
      if (!(await reaches())) failures++;
      return (await ask(second.socket, 'readyz')) === 'ok serving';
    },
    { what: 'the second agent to serve', timeoutMs: 20_000 },
  );
  await open.exchange({ data: 'y', want: 1 });
  const { sent, lost, rcodes } = await load.result;
  assert.equal(lost, 0, `${lost} of ${sent} lost`);
  assert.deepEqual(rcodes, { 0: sent });
  assert.equal(failures, 0, 'what the policy allows was reached all the time');
  const applications = tandem.applications();
  api.remove(networkPolicy(cidr));
  await tandem.waitForApplication(applications);
  assert.ok(!(await reaches()), 'it follows the API');
});
