// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A node-local cache on each node, made of the CoreDNS that the bed has, and a CiliumLocalRedirectPolicy that leads queries for
 * kube-dns to it. The clients' policy names kube-dns alone (in Cilium that cuts their DNS off). The client of each node asks by
 * each address of kube-dns, with --dual-stack over IPv6 too. The cache asks the address that is redirected, with the loop
 * plugin: were it led to itself, it would end.
 */

import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type RunningProcess, run, startProcess } from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';
import { demoNamespace, demoObjects } from '../demo-objects.ts';
import { applyObjects, kubectl, kubectlTandem } from '../kubectl.ts';
import { dnsServiceAddress, ipv6, nodeIndexes, nodeName, worldNewNumberMax } from '../layout.ts';
import { inNode } from '../node.ts';
import { rollout } from '../product.ts';
import { agentMetric } from './agents.ts';
import { cacheName, cacheNamespace, cacheObjects, cachePod, cachePolicy } from './local-cache.ts';
import { podProcess } from './pod-process.ts';
import type { Trial } from './trial.ts';

/** UDP and TCP. */
const protocols = 2;
/** Queries of each client to each address of kube-dns. */
const queries = 500;
const queriesPerSecond = 100;
/** By caches: a socket of a member that was open before the redirect stays with kube-dns until it is closed. */
const cachedShareMin = 0.9;
const waitMs = 120_000;

export async function localDns(trial: Trial): Promise<void> {
  const { layout, steps } = trial;
  const addresses = dnsAddresses(trial);
  const redirects = addresses.length * protocols;
  const untilRedirects = (series: string, count: number): Promise<unknown> =>
    waitFor(async () => (await metrics(trial, series)).every((value) => value === count), {
      what: `${series} to be ${count} on each node`,
      timeoutMs: waitMs,
    });
  /** Lookups while `change` is made, from a second before it to a second after it. */
  const during = async (seconds: number, change: () => Promise<unknown>): Promise<string> => {
    await using load = await startLookups(trial, seconds);
    await delay(1000);
    await change();
    await delay(1000);
    return await load.end();
  };
  const changeNetwork = async (hostNetwork: boolean): Promise<void> => {
    const patch = JSON.stringify({ spec: { template: { spec: { hostNetwork } } } });
    const target = ['-n', cacheNamespace, 'patch', `daemonset/${cacheName}`, '-p', patch];
    await kubectl(layout, target);
    await rollout(layout, cacheNamespace, cacheName);
  };
  const cachesAnswer = async (): Promise<string> => {
    const before = await answered(trial);
    const text = await lookups(trial);
    const by = (await answered(trial)).map((count, place) => count - (before[place] ?? 0));
    const asked = queries * addresses.length;
    if (by.some((count) => count < asked * cachedShareMin)) throw new Error(`${by}; ${text}`);
    return `${text}, ${by.join(' and ')} by the caches`;
  };
  await applyObjects(layout, demoObjects);
  await rollout(layout, demoNamespace, 'client');

  steps.title('A cache on each node, and a policy that leads to it');
  await steps.step(
    'before the cache is there, the policy leads nowhere and lookups go on',
    async () => {
      await applyObjects(layout, [cachePolicy]);
      await untilRedirects('tandem_redirects_waiting', redirects);
      return lookups(trial);
    },
  );
  await steps.step('the caches are ready, and each node leads to its own', async () => {
    await applyObjects(layout, cacheObjects);
    await rollout(layout, cacheNamespace, cacheName);
    await untilRedirects('tandem_redirects', redirects);
    return `${redirects} redirects a node`;
  });
  await steps.step('a policy that names kube-dns alone: the caches answer', cachesAnswer);

  steps.title('The cache restarts');
  await steps.step('its pod is deleted, and another one takes its place', () =>
    during(60, async () => {
      const old = await cachePod(trial, 1);
      await kubectl(layout, ['-n', cacheNamespace, 'delete', 'pod', old, '--wait=false']);
      const isReady = async (): Promise<boolean> => !['', old].includes(await cachePod(trial, 1));
      await waitFor(isReady, { what: 'the next cache to be ready', timeoutMs: waitMs });
      await waitFor(async () => ((await answered(trial))[0] ?? 0) > 0, {
        what: 'it to answer',
        timeoutMs: waitMs,
      });
    }),
  );
  await steps.step('the DaemonSet is rolled out', () =>
    during(120, async () => {
      const restart = ['rollout', 'restart', `daemonset/${cacheName}`];
      await kubectl(layout, ['-n', cacheNamespace, ...restart]);
      await rollout(layout, cacheNamespace, cacheName);
    }),
  );

  steps.title('Caches on the network of their node');
  await steps.step('are no backends: kube-dns answers, and status says why', () =>
    during(120, async () => {
      await changeNetwork(true);
      await untilRedirects('tandem_redirects_waiting', redirects);
      const isSaid = async (): Promise<boolean> =>
        (await kubectlTandem(layout, ['status', '-o', 'json'])).stdout.includes(
          'redirect-backend-host',
        );
      await waitFor(isSaid, { what: 'status to name the pods', timeoutMs: waitMs });
    }),
  );
  await steps.step('and back on their own', async () => {
    const text = await during(120, async () => {
      await changeNetwork(false);
      await untilRedirects('tandem_redirects', redirects);
    });
    return `${text}; then ${await cachesAnswer()}`;
  });

  steps.title('The policy goes');
  await steps.step('lookups go to kube-dns again, and no table is left', () => {
    const target = [
      `ciliumlocalredirectpolicy/${cacheName}`,
      `daemonset/${cacheName}`,
      `configmap/${cacheName}`,
    ];
    return during(60, async () => {
      await kubectl(layout, ['-n', cacheNamespace, 'delete', ...target]);
      await waitFor(async () => !(await tables(trial)).includes('tandem_redirect'), {
        what: 'the tables to go',
        timeoutMs: waitMs,
      });
    });
  });
}

function dnsAddresses({ config }: Trial): readonly string[] {
  return config.isDualStack ? [dnsServiceAddress, ipv6.dnsServiceAddress] : [dnsServiceAddress];
}

/** Lets each client look names up, and checks that no lookup is lost or fails. */
async function lookups(trial: Trial): Promise<string> {
  await using load = await startLookups(trial, queries / queriesPerSecond);
  return await load.end(false);
}

interface Lookups extends AsyncDisposable {
  /** Result as text. @throws Error if a lookup was lost or failed */
  end(isEarly?: boolean): Promise<string>;
}

interface LoadResult {
  readonly sent: number;
  readonly lost: number;
  readonly maxUs: number;
  readonly rcodes: Readonly<Record<string, number>>;
}

/** Starts lookups of the client of each node, to each address of kube-dns. */
async function startLookups(trial: Trial, seconds: number): Promise<Lookups> {
  await using stack = new AsyncDisposableStack();
  const running: { readonly what: string; readonly process: RunningProcess }[] = [];
  for (const node of nodeIndexes(trial.config)) {
    const pid = podProcess(trial.layout, await clientOf(trial, node));
    for (const server of dnsAddresses(trial)) {
      const process = startProcess('nsenter', [
        ...[`--net=/proc/${pid}/ns/net`, tool, ...loadArgs(server, seconds)],
      ]);
      stack.defer(() => process.stop());
      running.push({ what: `${nodeName(node)} by ${server}`, process });
    }
  }
  const ownStack = stack.move();
  return {
    end: async (isEarly = true) => {
      if (isEarly) for (const { process } of running) process.child.kill('SIGTERM');
      await Promise.all(running.map(({ process }) => process.exited));
      const results = running.map(({ what, process }) => {
        const result = JSON.parse(process.stdout()) as LoadResult;
        return { what, ...result, failed: result.sent - result.lost - (result.rcodes['0'] ?? 0) };
      });
      const textOf = ({ what, sent, lost, failed, maxUs }: (typeof results)[number]): string =>
        `${what} ${sent} lookups, ${lost} lost, ${failed} failed, slowest ${(maxUs / 1000).toFixed(0)} ms`;
      const bad = results.filter(({ sent, lost, failed }) => lost > 0 || failed > 0 || sent === 0);
      if (bad.length > 0) throw new Error(bad.map(textOf).join('; '));
      const sent = results.reduce((sum, result) => sum + result.sent, 0);
      const slowestUs = Math.max(...results.map(({ maxUs }) => maxUs));
      return `${sent} lookups of ${results.length} kinds (node, address), 0 lost, 0 failed, slowest ${(slowestUs / 1000).toFixed(0)} ms`;
    },
    [Symbol.asyncDispose]: () => ownStack.disposeAsync(),
  };
}

const tool = fileURLToPath(new URL('../../bench/native/build/load', import.meta.url));

function loadArgs(server: string, seconds: number): readonly string[] {
  const options = {
    ...{ server, rate: queriesPerSecond, seconds, 'timeout-ms': 5000 },
    ...{ 'name-format': 'new-%u.example.com', 'name-start': 1, 'name-count': worldNewNumberMax },
    ...{ sockets: 16, 'queries-per-port': 1 },
  };
  return Object.entries(options).flatMap(([key, value]) => [`--${key}`, `${value}`]);
}

function clientOf({ layout }: Trial, node: number): Promise<string> {
  const on = `--field-selector=spec.nodeName=${nodeName(node)}`;
  const get = ['-n', demoNamespace, 'get', 'pods', '-l', 'app=client', on];
  return kubectl(layout, [...get, '-o', 'jsonpath={.items[0].metadata.name}']);
}

/** Queries that the cache of each node was asked. */
function answered(trial: Trial): Promise<readonly number[]> {
  return onEachNode(trial, async (node) => {
    const pod = await cachePod(trial, node);
    const path = `/api/v1/namespaces/${cacheNamespace}/pods/${pod}:9153/proxy/metrics`;
    const text = await kubectl(trial.layout, ['get', '--raw', path]);
    return [...text.matchAll(/^coredns_dns_requests_total\{.*\} (\S+)$/gm)].reduce(
      (total, [, value]) => total + Number(value),
      0,
    );
  });
}

/** Value of a series at the agent of each node. */
function metrics(trial: Trial, series: string): Promise<readonly number[]> {
  return onEachNode(trial, (node) => agentMetric(trial, node, series));
}

/** nftables tables of all nodes. */
async function tables(trial: Trial): Promise<string> {
  const texts = await onEachNode(trial, async (node) => {
    const list = await inNode(trial.layout, node, ['nft', 'list', 'tables']);
    return (await run(...list)).stdout;
  });
  return texts.join('');
}

function onEachNode<T>(
  { config }: Trial,
  read: (node: number) => Promise<T>,
): Promise<readonly T[]> {
  return Promise.all(nodeIndexes(config).map(read));
}
