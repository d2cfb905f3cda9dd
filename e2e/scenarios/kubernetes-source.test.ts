// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The agent with the Kubernetes API as its source: policy follows the API, interfaces follow CNI and never a pod's
 * annotation, a pod starts when it is enforced, and without the API server everything stays as it was.
 */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { askDns } from '@tandem/testing/dns-query';
import type { Pod } from '@tandem/testing/netns';
import { Probe } from '@tandem/testing/probe';
import { waitFor } from '@tandem/testing/wait';
import { KubeApi } from '../kit/kube-api.ts';
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

const api = await KubeApi.start();
const cni = mkdtempSync(join(tmpdir(), 'tandem-cni-'));
const [confDir, binDir, resultsDir] = ['net.d', 'bin', 'results'].map((name) =>
  join(cni, name),
) as [string, string, string];
for (const directory of [confDir, binDir, resultsDir]) mkdirSync(directory);
writeFileSync(
  join(confDir, '10-net.conflist'),
  JSON.stringify({ cniVersion: '1.0.0', name: 'pods', plugins: [{ type: 'ptp' }] }),
);

interface ApiPod {
  readonly metadata: { readonly uid: string; readonly annotations: object };
  readonly status: object;
}

/** As the API has it; `interfaceName`: what its annotation claims. */
function podOf(pod: Pod, interfaceName = pod.hostInterface): object {
  const isDns = pod.name === 'dns';
  return podObject(
    { ...pod, hostInterface: interfaceName },
    isDns ? { namespace: 'kube-system', labels: { 'k8s-app': 'kube-dns' } } : {},
  );
}

async function cniResult(pod: Pod): Promise<object> {
  const [link] = (await pod.namespace.ipJson(['link', 'show', 'eth0'])) as [{ address: string }];
  return {
    cniVersion: '1.0.0',
    interfaces: [
      { name: pod.hostInterface },
      { name: 'eth0', mac: link.address, sandbox: '/var/run/netns/cni-1' },
    ],
    ips: [pod.ipv4, pod.ipv6].flatMap((ip) =>
      ip === null ? [] : [{ interface: 1, address: `${ip}/${ip.includes(':') ? 128 : 32}` }],
    ),
  };
}

/** The gate, as the container runtime calls it when all other plugins are done. */
async function callGate(pod: Pod, command: 'ADD' | 'DEL', seconds = 20): Promise<string> {
  const child = spawn(join(binDir, 'tandem-gate'), {
    env: {
      CNI_COMMAND: command,
      CNI_CONTAINERID: `sandbox-${pod.name}`,
      CNI_NETNS: '/var/run/netns/cni-1',
      CNI_IFNAME: 'eth0',
      CNI_ARGS: `K8S_POD_NAMESPACE=default;K8S_POD_NAME=${pod.name};K8S_POD_UID=uid-default-${pod.name}`,
    },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const ended = once(child, 'close');
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (part: string) => (text += part));
  const list = JSON.parse(readFileSync(join(confDir, '00-tandem.conflist'), 'utf8')) as {
    readonly plugins: readonly object[];
  };
  child.stdin.end(
    JSON.stringify({
      ...list.plugins.at(-1),
      ...{ cniVersion: '1.0.0', name: 'pods', gateTimeoutSeconds: String(seconds) },
      prevResult: await cniResult(pod),
    }),
  );
  const [code] = (await ended) as [number | null];
  if (code === 0) return 'started';
  const { msg, details = '' } = JSON.parse(text) as { msg: string; details?: string };
  return `${msg}: ${details}`;
}

let standard: StandardNode;
let late: Probe;
const connects = async (probe: Probe, to: string): Promise<boolean> => {
  try {
    await probe.tcp({ to, port: 80, data: 'x', want: 1, timeoutMs: 300 });
    return true;
  } catch {
    return false;
  }
};

before(async () => {
  standard = await startStandardNode({
    pods: [{ name: 'late' }, { name: 'bridged', kind: 'bridge' }, { name: 'liar' }],
    agentOptions: {
      source: 'kubernetes',
      kubeconfig: api.kubeconfig,
      'cni-conf-dir': confDir,
      'cni-bin-dir': binDir,
      'cni-results-dir': resultsDir,
    },
    prepare: async (node) => {
      await api.connect(node);
      const services = ['udp', 'tcp'].map((protocol) => ({
        ...{ clusterIp: clusterDns4, port: 53, protocol: protocol as 'udp' | 'tcp' },
        backends: [{ address: node.pod('dns').ipv4 ?? '', port: 53 }],
      }));
      const [client, liar, bridged] = ['client', 'liar', 'bridged'].map((name) =>
        node.pod(name),
      ) as [Pod, Pod, Pod];
      writeFileSync(
        join(resultsDir, 'pods-1-eth0'),
        JSON.stringify({
          ...{ kind: 'cniCacheV1', containerId: 'sandbox-bridged', ifName: 'eth0' },
          cniArgs: [
            ['K8S_POD_NAMESPACE', 'default'],
            ['K8S_POD_NAME', 'bridged'],
          ],
          result: await cniResult(bridged),
        }),
      );
      api.put(
        ...['default', 'kube-system'].map(namespaceObject),
        ...nodeObjects(),
        ...serviceObjects('kube-dns', 'kube-system', services),
        podOf(client, 'no-such-interface'),
        podOf(node.pod('dns')),
        podOf(bridged, client.hostInterface),
        podOf(liar, client.hostInterface),
        standardPolicy,
      );
    },
  });
  late = standard.node.own(Probe.start(standard.node.pod('late').namespace));
});
after(async () => {
  await standard[Symbol.asyncDispose]();
  await api[Symbol.asyncDispose]();
  rmSync(cni, { recursive: true });
});

async function lookUp(probe: Probe, name: string): Promise<{ rcode: string; to: string }> {
  const { rcode, addresses } = await askDns(probe, { server: clusterDns4, name });
  return { rcode, to: addresses[0] ?? '' };
}

test('a policy of the API is in force, at interfaces that routes and CNI tell', async () => {
  const { client, node, tandem } = standard;
  const allowed = await lookUp(client, 'n-1.allowed.test');
  assert.equal(allowed.rcode, 'NOERROR', tandem.logs());
  assert.ok(await connects(client, allowed.to));
  assert.equal((await lookUp(client, 'n-1.denied.test')).rcode, 'REFUSED');
  assert.ok(!(await connects(client, '198.19.0.1')));
  const bridged = node.own(Probe.start(node.pod('bridged').namespace));
  assert.ok(await connects(bridged, '198.18.0.9'), 'by the result that CNI left');
  assert.doesNotMatch(tandem.logs(), /no-such-interface/);
});

test('a change of the API is in force at once', async () => {
  const { client } = standard;
  const policy = networkPolicy({
    name: 'more',
    selects: { app: 'client' },
    egress: [{ toCIDR: ['198.19.0.0/16'] }],
  });
  api.put(policy);
  await waitFor(() => connects(client, '198.19.0.1'), { what: 'the new policy' });
  api.remove(policy);
  await waitFor(async () => !(await connects(client, '198.19.0.1')), { what: 'its end' });
});

describe('the gate', () => {
  test('is the last plugin of the chain, in a file of its own', () => {
    assert.deepEqual(readdirSync(confDir).sort(), ['00-tandem.conflist', '10-net.conflist']);
    const { plugins } = JSON.parse(readFileSync(join(confDir, '00-tandem.conflist'), 'utf8')) as {
      plugins: readonly { type: string }[];
    };
    assert.deepEqual(
      plugins.map(({ type }) => type),
      ['ptp', 'tandem-gate'],
    );
  });

  test('a pod that the API has not told of does not start, and passes nothing', async () => {
    const pod = standard.node.pod('late');
    assert.match(
      await callGate(pod, 'ADD', 1),
      /agent gave no answer: the time of the call is over/,
    );
    assert.ok(!(await connects(late, '198.18.0.9')));
    await callGate(pod, 'DEL');
  });

  test('a pod starts when its policy is in force, before the API has its address', async () => {
    const { node } = standard;
    const pod = node.pod('late');
    const { status: _, ...object } = podOf(pod, node.pod('client').hostInterface) as ApiPod;
    api.put(
      networkPolicy({
        name: 'late',
        selects: { app: 'late' },
        egress: [{ toCIDR: ['198.18.0.0/16'] }],
      }),
    );
    const starting = callGate(pod, 'ADD');
    api.put({ ...object, status: { phase: 'Pending' } });
    assert.equal(await starting, 'started', standard.tandem.logs());
    assert.ok(await connects(late, '198.18.0.9'), 'allowed');
    assert.ok(!(await connects(late, '198.19.0.9')), 'by no policy');
  });
});

describe('the API server is away', () => {
  test('policy stays in force, a restart of the agent included', async () => {
    const { client, tandem } = standard;
    await api.disconnect();
    await tandem.kill('agent');
    await tandem.startProcess('agent');
    await tandem.waitForMembers(['agent', 'proxy']);
    const fresh = await lookUp(client, 'n-77.allowed.test');
    assert.equal(fresh.rcode, 'NOERROR', tandem.logs());
    assert.ok(await connects(client, fresh.to), 'a new name');
    assert.equal((await lookUp(client, 'n-77.denied.test')).rcode, 'REFUSED');
    assert.ok(!(await connects(client, '198.19.0.1')));
    assert.ok(await connects(late, '198.18.0.9'));
    assert.ok(!(await connects(late, '198.19.0.9')));
    assert.match(tandem.logs(), /source-unreachable/);
  });

  test('a pod that starts meanwhile is held', async () => {
    const pod = standard.node.pod('liar');
    assert.match(await callGate(pod, 'ADD', 1), /agent gave no answer/);
  });

  test('when it is back its changes are applied', async () => {
    const { client, node, tandem } = standard;
    api.put(
      networkPolicy({
        name: 'more',
        selects: { app: 'client' },
        egress: [{ toCIDR: ['198.19.0.0/16'] }],
      }),
    );
    await api.connect(node);
    await waitFor(() => connects(client, '198.19.0.1'), {
      what: `the new policy: ${tandem.logs()}`,
      timeoutMs: 15_000,
    });
  });
});
