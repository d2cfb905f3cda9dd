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
import { demoNamespace, demoObjects } from '../demo-objects.ts';
import { applyObjects, kubectl } from '../kubectl.ts';
import { dnsServiceAddress, nodeIndexes, nodeName, worldNewNumberMax } from '../layout.ts';
import { inNode } from '../node.ts';
import { rollout } from '../product.ts';
import { agentMetric } from './agents.ts';
import { cacheName, cacheNamespace, cacheObjects, cachePod, cachePolicy } from './local-cache.ts';
import { podProcess } from './pod-process.ts';
import type { Trial } from './trial.ts';

const queries = 1000;
const queriesPerSecond = 200;
const waitMs = 120_000;

export async function localDns(trial: Trial): Promise<void> {
  const { layout, steps } = trial;
  await applyObjects(layout, demoObjects);
  await rollout(layout, demoNamespace, 'client');

  steps.title('A cache on each node, and a policy that leads to it');
  await steps.step(
    'before the cache is there, the policy leads nowhere and lookups go on',
    async () => {
      await applyObjects(layout, [cachePolicy]);
      await waitFor(async () => (await metric(trial, 'tandem_redirects_waiting')) === 2, {
        what: 'the policy to be known',
        timeoutMs: waitMs,
      });
      return lookups(trial);
    },
  );
  await steps.step('the caches are ready, and the node leads to its own', async () => {
    await applyObjects(layout, cacheObjects);
    await rollout(layout, cacheNamespace, cacheName);
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
    const old = await cachePod(trial, 1);
    await using load = await startLookups(trial, 30);
    await delay(1000);
    await kubectl(layout, ['-n', cacheNamespace, 'delete', 'pod', old, '--wait=false']);
    const isReady = async (): Promise<boolean> => !['', old].includes(await cachePod(trial, 1));
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
    const restart = ['rollout', 'restart', `daemonset/${cacheName}`];
    await kubectl(layout, ['-n', cacheNamespace, ...restart]);
    await rollout(layout, cacheNamespace, cacheName);
    await delay(1000);
    const text = await load.end();
    return text;
  });

  steps.title('The policy goes');
  await steps.step('lookups go to kube-dns again, and no table is left', async () => {
    const target = [
      `ciliumlocalredirectpolicy/${cacheName}`,
      `daemonset/${cacheName}`,
      `configmap/${cacheName}`,
    ];
    await using load = await startLookups(trial, 60);
    await delay(1000);
    await kubectl(layout, ['-n', cacheNamespace, 'delete', ...target]);
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

/** Queries that the first node's cache was asked. */
async function answered(trial: Trial): Promise<number> {
  const pod = await cachePod(trial, 1);
  const path = `/api/v1/namespaces/${cacheNamespace}/pods/${pod}:9153/proxy/metrics`;
  const text = await kubectl(trial.layout, ['get', '--raw', path]);
  return [...text.matchAll(/^coredns_dns_requests_total\{.*\} (\S+)$/gm)].reduce(
    (total, [, value]) => total + Number(value),
    0,
  );
}

/** Of the first node's agent. */
function metric(trial: Trial, series: string): Promise<number> {
  const [index = 1] = nodeIndexes(trial.config);
  return agentMetric(trial, index, series);
}

async function tables(trial: Trial): Promise<string> {
  const [index = 1] = nodeIndexes(trial.config);
  return (await run(...(await inNode(trial.layout, index, ['nft', 'list', 'tables'])))).stdout;
}
