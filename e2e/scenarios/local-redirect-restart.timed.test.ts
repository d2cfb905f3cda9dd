// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A node-local cache behind a CiliumLocalRedirectPolicy ends and comes back, as in a rollout of its DaemonSet (cilium#43454):
 * no query is lost, of pods under DNS rules and of others.
 */

import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { askDns } from '@tandem/testing/dns-query';
import { DnsServer } from '@tandem/testing/dns-server';
import { tryRun } from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';
import { type LoadResult, startLoad } from '../kit/load.ts';
import { type PodObject, podObject, redirectPolicy } from '../kit/objects.ts';
import {
  clusterDns4,
  clusterDns6,
  type StandardNode,
  standardPolicy,
  standardRules,
  startStandardNode,
} from '../kit/standard-node.ts';

const cacheObject = { namespace: 'kube-system', labels: { 'k8s-app': 'node-local-dns' } };
const dnsObject = { namespace: 'kube-system', labels: { 'k8s-app': 'kube-dns' } };
/** At 250 a second, over the whole of a restart. */
const queries = 1000;
const tcpQueries = 10;
const overTcp = { transport: 'tcp', timeoutMs: 5000 } as const;
const load = { rate: 250, seconds: queries / 250, nameFormat: 'n-%u.allowed.test' } as const;

function assertNothingLost(what: string, result: LoadResult): void {
  const { sent, answered, lost, late, sendFailed, rcodes, maxUs } = result;
  const said = `${what}: ${JSON.stringify({ sent, answered, lost, late, sendFailed, rcodes, maxUs })}`;
  console.log(said);
  assert.ok(sent >= queries * 0.9, said);
  assert.deepEqual({ lost, late, sendFailed }, { lost: 0, late: 0, sendFailed: 0 }, said);
  assert.deepEqual(rcodes, { 0: answered }, said);
}

/** A pod under DNS rules whose answers over UDP are too long: it asks each over TCP, on a connection of its own. */
async function assertAnsweredOverTcp({ client, dns }: StandardNode): Promise<void> {
  const { total } = await dns.totals();
  for (let number = 1; number <= tcpQueries; number++) {
    const name = `n-${queries + number}.allowed.test`;
    // oxlint-disable-next-line no-await-in-loop -- one after the other
    const { rcode } = await askDns(client, { ...overTcp, server: clusterDns4, name });
    assert.equal(rcode, 'NOERROR', name);
  }
  assert.ok((await dns.totals()).total >= total + tcpQueries, 'kube-dns answered');
}

describe('a node-local cache that restarts', () => {
  let standard: StandardNode;
  let cache: DnsServer;
  const objects: Record<string, PodObject> = {};

  const table = async (): Promise<string> =>
    (await tryRun(...standard.node.node.enter('nft', ['list', 'table', 'inet', 'tandem_redirect'])))
      .stdout;
  const leadsTo = (pod: string | null): Promise<unknown> =>
    waitFor(
      async () => {
        const text = await table();
        return pod === null
          ? !text.includes('dnat')
          : text.includes(`0 : ${standard.node.pod(pod).ipv4} . 53`);
      },
      { what: `redirects to ${pod ?? 'nobody'}` },
    );
  const writePods = (changed: Readonly<Record<string, PodObject>>): void => {
    Object.assign(objects, changed);
    standard.tandem.write(
      'pods.yaml',
      standard.node.pods.map((pod) => podObject(pod, objects[pod.name])),
    );
  };
  const startCache = async (pod: string): Promise<DnsServer> => {
    const { namespace, ipv4, ipv6 } = standard.node.pod(pod);
    const addresses = [ipv4, ipv6].filter((each) => each !== null);
    return standard.node.own(await DnsServer.start(namespace, { addresses, rules: standardRules }));
  };

  /** Until nothing more comes to it. */
  const quiet = async (server: DnsServer): Promise<void> => {
    let last = -1;
    await waitFor(
      async () => {
        await delay(100);
        const { total } = await server.totals();
        const isQuiet = total === last;
        last = total;
        return isQuiet;
      },
      { what: 'the cache to be asked nothing' },
    );
  };

  beforeEach(async () => {
    Object.assign(objects, { dns: dnsObject, cache: { ...cacheObject, isReady: true } });
    standard = await startStandardNode({
      pods: [{ name: 'cache' }, { name: 'free', kind: 'bridge' }],
      podObjects: { cache: { ...cacheObject, isReady: true } },
      policies: [standardPolicy, redirectPolicy()],
    });
    cache = await startCache('cache');
    await leadsTo('cache');
  });
  afterEach(() => standard[Symbol.asyncDispose]());

  for (const server of [clusterDns4, clusterDns6]) {
    test(`${server}: it ends in peace, and another pod takes its place: no query is lost`, async () => {
      const { node, dns } = standard;
      const clients = [
        { pod: 'client', what: 'under DNS rules' },
        // As the resolvers of C libraries do: a socket for each query.
        { pod: 'free', what: 'without policy', queriesPerPort: 1 },
      ];
      await using stack = new AsyncDisposableStack();
      const loads = clients.map(({ pod, what, ...rest }) => {
        const running = startLoad(node.pod(pod).namespace, { ...load, server, ...rest });
        return { what, running: stack.use(running) };
      });
      await waitFor(async () => (await cache.totals()).total > 50, {
        what: 'queries at the cache',
      });
      // kubelet: deletionTimestamp and SIGTERM, then a time in which the cache serves, then Ready is False.
      writePods({ cache: { ...cacheObject, isReady: true, isDeleting: true } });
      await leadsTo(null);
      await quiet(cache);
      const { total } = await cache.totals();
      await cache[Symbol.asyncDispose]();
      writePods({ cache: { ...cacheObject, isReady: false, isDeleting: true } });
      await node.addPod({ name: 'next' });
      const next = await startCache('next');
      writePods({ next: { ...cacheObject, isReady: true } });
      await leadsTo('next');
      for (const { what, running } of loads) assertNothingLost(what, await running.result);
      assert.ok(total > 50 && (await dns.totals()).total > 50, 'the first cache, and kube-dns');
      assert.ok((await next.totals()).total > 50, 'and the next cache');
    });

    test(`${server}: a pod that keeps its socket is led elsewhere when the cache is not ready`, async () => {
      const { node, dns } = standard;
      const { ipv4, ipv6 } = node.pod('free');
      await using running = startLoad(node.pod('free').namespace, { ...load, server });
      await waitFor(async () => (await cache.totals()).total > 50, {
        what: 'queries at the cache',
      });
      await cache[Symbol.asyncDispose]();
      writePods({ cache: { ...cacheObject, isReady: false } });
      const own = server.includes(':') ? ipv6 : ipv4;
      await waitFor(
        async () => (await dns.queries()).filter(({ from }) => from === own).length > 50,
        { what: 'queries of the same sockets at kube-dns' },
      );
      running.end();
      await running.result;
    });
  }

  test('it is killed while it counts as ready: pods under DNS rules lose no query', async () => {
    const { node, dns } = standard;
    await using running = startLoad(node.pod('client').namespace, { ...load, server: clusterDns4 });
    await waitFor(async () => (await cache.totals()).total > 50, { what: 'queries at the cache' });
    process.kill(cache.pid, 'SIGKILL');
    await waitFor(async () => (await dns.totals()).total > 100, { what: 'kube-dns to answer' });
    assertNothingLost('under DNS rules', await running.result);
    // The cache's node refuses: its pod is there, without a program.
    await assertAnsweredOverTcp(standard);
  });

  test('ports are used again at once: a connection of conntrack to the ended cache takes no query', async () => {
    const { node, tandem, dns } = standard;
    // 64 sockets to a server share 2000 ports, so about two sockets past redirects have a port that led to the cache before.
    await node.node.sysctl({ 'net.ipv4.ip_local_reserved_ports': '1024-63535' });
    await tandem.kill('agent');
    await using running = startLoad(node.pod('client').namespace, { ...load, server: clusterDns4 });
    await waitFor(async () => (await cache.totals()).total > 150, { what: 'queries at the cache' });
    await cache[Symbol.asyncDispose]();
    await waitFor(async () => (await dns.totals()).total > 100, { what: 'kube-dns to answer' });
    assertNothingLost('under DNS rules', await running.result);
  });

  test('it falls silent, and ports are used again: pods under DNS rules lose no query', async () => {
    const { node, dns } = standard;
    // As above: sockets that are opened past redirects have ports that conntrack still leads to the cache.
    await node.node.sysctl({ 'net.ipv4.ip_local_reserved_ports': '1024-64735' });
    const asks = { ...load, server: clusterDns4, timeoutMs: 5000 };
    await using running = startLoad(node.pod('client').namespace, asks);
    await waitFor(async () => (await cache.totals()).total > 150, { what: 'queries at the cache' });
    process.kill(cache.pid, 'SIGSTOP');
    await waitFor(async () => (await dns.totals()).total > 100, { what: 'kube-dns to answer' });
    assertNothingLost('under DNS rules', await running.result);
  });

  test('it pauses while the pods of kube-dns refuse: it is asked on, and no query fails', async () => {
    const { node, dns } = standard;
    const asks = { ...load, server: clusterDns4, seconds: 8, timeoutMs: 5000 };
    await dns[Symbol.asyncDispose]();
    await using running = startLoad(node.pod('client').namespace, asks);
    await waitFor(async () => (await cache.totals()).total > 150, { what: 'queries at the cache' });
    process.kill(cache.pid, 'SIGSTOP');
    // Longer than a second: members ask past the redirect, where nobody is.
    await delay(1400);
    process.kill(cache.pid, 'SIGCONT');
    const { sent, lost, rcodes } = await running.result;
    assert.deepEqual({ lost, rcodes }, { lost: 0, rcodes: { 0: sent } });
  });

  test('its pod goes while no agent lives: pods under DNS rules lose no query', async () => {
    const { node, tandem, dns } = standard;
    await tandem.kill('agent');
    await using running = startLoad(node.pod('client').namespace, { ...load, server: clusterDns4 });
    await waitFor(async () => (await cache.totals()).total > 50, { what: 'queries at the cache' });
    await cache[Symbol.asyncDispose]();
    await node.removePod('cache');
    await waitFor(async () => (await dns.totals()).total > 100, { what: 'kube-dns to answer' });
    const { lost, rcodes, answered } = await running.result;
    assert.deepEqual({ lost, rcodes }, { lost: 0, rcodes: { 0: answered } });
    // Nobody is there who could refuse.
    await assertAnsweredOverTcp(standard);
  });
});
