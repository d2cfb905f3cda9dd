// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A node-local cache on each node, made of the CoreDNS that the bed has, and a CiliumLocalRedirectPolicy that leads queries for
 * kube-dns to it. The client's policy names kube-dns alone (in Cilium that cuts its DNS off). The cache asks the address
 * that is redirected, with the loop plugin: were it led to itself, it would end.
 */

import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type RunningProcess, run, startProcess } from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';
import { corednsImage } from '../base-images.ts';
import { demoNamespace, demoObjects } from '../demo-objects.ts';
import { applyObjects, kubectl } from '../kubectl.ts';
import { dnsServiceAddress, nodeIndexes, nodeName, worldNewNumberMax } from '../layout.ts';
import { inNode } from '../node.ts';
import { rollout } from '../product.ts';
import { podProcess } from './pod-process.ts';
import type { Trial } from './trial.ts';

const name = 'node-local-dns';
const metadata = { name, namespace: 'kube-system' };
const labels = { 'k8s-app': name };
const ports = [
  { name: 'dns', port: 53, protocol: 'UDP' },
  { name: 'dns-tcp', port: 53, protocol: 'TCP' },
] as const;
const queries = 1000;
const queriesPerSecond = 200;
const waitMs = 120_000;
/** In which a cache that ends still serves: Kubernetes' own CoreDNS has five seconds. */
const corefile = `.:53 {
    errors
    health { lameduck 5s }
    ready
    prometheus :9153
    cache 30
    loop
    forward . ${dnsServiceAddress}
}
`.replace('health { lameduck 5s }', 'health {\n        lameduck 5s\n    }');

const objects: readonly unknown[] = [
  { apiVersion: 'v1', kind: 'ConfigMap', metadata, data: { Corefile: corefile } },
  {
    apiVersion: 'apps/v1',
    kind: 'DaemonSet',
    metadata,
    spec: {
      selector: { matchLabels: labels },
      template: {
        metadata: { labels },
        spec: {
          dnsPolicy: 'Default',
          containers: [
            {
              name: 'coredns',
              image: corednsImage,
              imagePullPolicy: 'IfNotPresent',
              args: ['-conf', '/etc/coredns/Corefile'],
              ports: ports.map(({ port, ...each }) => ({ ...each, containerPort: port })),
              readinessProbe: { httpGet: { path: '/ready', port: 8181 }, periodSeconds: 1 },
              volumeMounts: [{ name: 'config', mountPath: '/etc/coredns', readOnly: true }],
            },
          ],
          volumes: [{ name: 'config', configMap: { name } }],
        },
      },
    },
  },
];
const policy = {
  apiVersion: 'cilium.io/v2',
  kind: 'CiliumLocalRedirectPolicy',
  metadata,
  spec: {
    redirectFrontend: { serviceMatcher: { serviceName: 'kube-dns', namespace: 'kube-system' } },
    redirectBackend: {
      localEndpointSelector: { matchLabels: labels },
      toPorts: ports.map(({ port, ...each }) => ({ ...each, port: `${port}` })),
    },
  },
};

export async function localDns(trial: Trial): Promise<void> {
  const { layout, steps } = trial;
  await applyObjects(layout, demoObjects);
  await rollout(layout, demoNamespace, 'client');

  steps.title('A cache on each node, and a policy that leads to it');
  await steps.step(
    'before the cache is there, the policy leads nowhere and lookups go on',
    async () => {
      await applyObjects(layout, [policy]);
      await waitFor(async () => (await metric(trial, 'tandem_redirects_waiting')) === 2, {
        what: 'the policy to be known',
        timeoutMs: waitMs,
      });
      return lookups(trial);
    },
  );
  await steps.step('the caches are ready, and the node leads to its own', async () => {
    await applyObjects(layout, objects);
    await rollout(layout, metadata.namespace, name);
    await waitFor(async () => (await metric(trial, 'tandem_redirects')) === 2, {
      what: 'redirects',
      timeoutMs: waitMs,
    });
    return '';
  });
  await steps.step(
    'a policy that names kube-dns alone: the cache of the node answers',
    async () => {
      const before = await answered(trial);
      const text = await lookups(trial);
      const by = (await answered(trial)) - before;
      if (by < queries) throw new Error(`${by} by the cache; ${text}`);
      return `${text}, ${by} by the cache`;
    },
  );

  steps.title('The cache restarts');
  await steps.step('its pod is deleted, and another one takes its place', async () => {
    const old = await cachePod(trial);
    await using load = await startLookups(trial, 30);
    await delay(1000);
    await kubectl(layout, ['-n', metadata.namespace, 'delete', 'pod', old, '--wait=false']);
    const isReady = async (): Promise<boolean> => !['', old].includes(await cachePod(trial));
    await waitFor(isReady, { what: 'the next cache to be ready', timeoutMs: waitMs });
    await waitFor(async () => (await answered(trial)) > 0, {
      what: 'it to answer',
      timeoutMs: waitMs,
    });
    await delay(1000);
    const text = await load.end();
    return text;
  });
  await steps.step('the DaemonSet is rolled out', async () => {
    await using load = await startLookups(trial, 120);
    await delay(1000);
    const restart = ['rollout', 'restart', `daemonset/${name}`];
    await kubectl(layout, ['-n', metadata.namespace, ...restart]);
    await rollout(layout, metadata.namespace, name);
    await delay(1000);
    const text = await load.end();
    return text;
  });

  steps.title('The policy goes');
  await steps.step('lookups go to kube-dns again, and no table is left', async () => {
    const target = [`ciliumlocalredirectpolicy/${name}`, `daemonset/${name}`, `configmap/${name}`];
    await using load = await startLookups(trial, 60);
    await delay(1000);
    await kubectl(layout, ['-n', metadata.namespace, 'delete', ...target]);
    await waitFor(async () => !(await tables(trial)).includes('tandem_redirect'), {
      what: 'the table to go',
      timeoutMs: waitMs,
    });
    await delay(1000);
    const text = await load.end();
    return text;
  });
}

/** So many lookups of the client on the first node: none may be lost or fail. */
async function lookups(trial: Trial): Promise<string> {
  await using load = await startLookups(trial, queries / queriesPerSecond);
  const text = await load.end(false);
  return text;
}

interface Lookups extends AsyncDisposable {
  /** What became of them. @throws Error when one was lost or failed */
  end(isEarly?: boolean): Promise<string>;
}

async function startLookups(trial: Trial, seconds: number): Promise<Lookups> {
  const { layout } = trial;
  const [index = 1] = nodeIndexes(trial.config);
  const on = `--field-selector=spec.nodeName=${nodeName(index)}`;
  const get = ['-n', demoNamespace, 'get', 'pods', '-l', 'app=client', on];
  const pod = await kubectl(layout, [...get, '-o', 'jsonpath={.items[0].metadata.name}']);
  const options = {
    server: dnsServiceAddress,
    rate: queriesPerSecond,
    seconds,
    'name-format': 'new-%u.example.com',
    'name-start': 1,
    'name-count': worldNewNumberMax,
    sockets: 16,
    'queries-per-port': 1,
    'timeout-ms': 5000,
  };
  const tool = fileURLToPath(new URL('../../bench/native/build/load', import.meta.url));
  const args = Object.entries(options).flatMap(([key, value]) => [`--${key}`, `${value}`]);
  const running: RunningProcess = startProcess('nsenter', [
    ...[`--net=/proc/${podProcess(layout, pod)}/ns/net`, tool, ...args],
  ]);
  return {
    end: async (isEarly = true) => {
      if (isEarly) running.child.kill('SIGTERM');
      await running.exited;
      const { sent, lost, maxUs, rcodes } = JSON.parse(running.stdout()) as {
        readonly sent: number;
        readonly lost: number;
        readonly maxUs: number;
        readonly rcodes: Readonly<Record<string, number>>;
      };
      const failed = sent - lost - (rcodes['0'] ?? 0);
      const text = `${sent} lookups, ${lost} lost, ${failed} failed, slowest ${(maxUs / 1000).toFixed(0)} ms`;
      if (lost > 0 || failed > 0 || sent === 0) throw new Error(text);
      return text;
    },
    [Symbol.asyncDispose]: () => running.stop(),
  };
}

/** The ready cache of the first node, which does not end; '' while there is none. */
async function cachePod({ layout, config }: Trial): Promise<string> {
  const [index = 1] = nodeIndexes(config);
  const on = `--field-selector=spec.nodeName=${nodeName(index)}`;
  const get = ['-n', metadata.namespace, 'get', 'pods', '-l', `k8s-app=${name}`, on];
  const template =
    '{range .items[*]}{.metadata.name} {.metadata.deletionTimestamp} {.status.conditions[?(@.type=="Ready")].status}{"\\n"}{end}';
  const text = await kubectl(layout, [...get, '-o', `jsonpath=${template}`]);
  const ready = text.split('\n').find((line) => / {2}True$/.test(line));
  return ready?.split(' ')[0] ?? '';
}

/** Queries that the first node's cache was asked. */
async function answered(trial: Trial): Promise<number> {
  const pod = await cachePod(trial);
  const path = `/api/v1/namespaces/${metadata.namespace}/pods/${pod}:9153/proxy/metrics`;
  const text = await kubectl(trial.layout, ['get', '--raw', path]);
  return [...text.matchAll(/^coredns_dns_requests_total\{.*\} (\S+)$/gm)].reduce(
    (total, [, value]) => total + Number(value),
    0,
  );
}

/** Of the first node's agent. */
async function metric(trial: Trial, series: string): Promise<number> {
  const [index = 1] = nodeIndexes(trial.config);
  const get = ['busybox', 'wget', '-qO-', 'http://127.0.0.1:9964/metrics'];
  const { stdout } = await run(...(await inNode(trial.layout, index, get)));
  const line = stdout.split('\n').find((text) => text.startsWith(`${series} `));
  return line === undefined ? Number.NaN : Number(line.slice(series.length));
}

async function tables(trial: Trial): Promise<string> {
  const [index = 1] = nodeIndexes(trial.config);
  return (await run(...(await inNode(trial.layout, index, ['nft', 'list', 'tables'])))).stdout;
}
