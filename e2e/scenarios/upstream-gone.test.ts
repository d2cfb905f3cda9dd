// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The DNS server goes away. Its port is closed: the pod hears so at once, as it would from the kernel without
 * the proxy, and its resolver goes to the next server. It is replaced behind its ClusterIP, with the connections
 * that conntrack has forgotten late or never: the pod loses no more than one without policy does.
 */

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { type DnsReply, encodeQuestion, readReply, withLength } from '@tandem/testing/dns-query';
import { DnsServer } from '@tandem/testing/dns-server';
import type { ServiceSpec } from '@tandem/testing/kube-proxy';
import type { Pod } from '@tandem/testing/netns';
import { tryRun } from '@tandem/testing/process';
import { lookUpByGlibc } from '../kit/glibc.ts';
import { type LoadResult, startLoad } from '../kit/load.ts';
import { dnsPolicy, serviceObjects } from '../kit/objects.ts';
import { clusterDns4, standardRules, startStandardNode } from '../kit/standard-node.ts';

const isFull = process.env['TANDEM_TEST_TIER'] === 'full';
const pattern = [{ matchPattern: '*.allowed.test' }];
const clusterDns = {
  toEndpoints: [{ matchLabels: { 'k8s:io.kubernetes.pod.namespace': 'kube-system' } }],
} as const;

interface Replacement {
  /** Rate of the queries, per second. */
  readonly rate: number;
  /** "removed": the pod and its address; "closed": its port, while the pod is still there. */
  readonly old: 'removed' | 'closed';
  /** Whether the EndpointSlice that the agent sees changes. */
  readonly isTold: boolean;
  /** When kube-proxy removes what conntrack has of the old backend; null: never. */
  readonly flushAfterMs: number | null;
}

const shortForm: readonly Replacement[] = [
  { rate: 200, old: 'removed', isTold: false, flushAfterMs: null },
  { rate: 5, old: 'removed', isTold: false, flushAfterMs: null },
  { rate: 5, old: 'removed', isTold: true, flushAfterMs: null },
  { rate: 200, old: 'closed', isTold: false, flushAfterMs: 2000 },
];
const longForm: readonly Replacement[] = [200, 5].flatMap((rate) =>
  (['removed', 'closed'] as const).flatMap((old) =>
    [true, false].flatMap((isTold) =>
      [null, 2000, 0].map((flushAfterMs) => ({ rate, old, isTold, flushAfterMs })),
    ),
  ),
);
const replacements = isFull ? longForm : shortForm;

// One server is in use at a time; each replacement takes the next.
const spares = replacements.map((_, i) => `dns-${i}`);
const dnsPods = ['closed', 'limited', ...spares];
const standard = await startStandardNode({
  pods: ['free', ...dnsPods].map((name) => ({ name })),
  policies: [
    dnsPolicy({ selects: { app: 'client' }, dns: pattern, fqdns: pattern, dnsPeers: clusterDns }),
  ],
  podObjects: Object.fromEntries(dnsPods.map((name) => [name, { namespace: 'kube-system' }])),
});
after(() => standard[Symbol.asyncDispose]());
const { client, node, tandem } = standard;
const clientSpace = node.pod('client').namespace;
const freeSpace = node.pod('free').namespace;
const closedServer = node.pod('closed').ipv4 ?? '';
// The kernel answers six times to one address and then once a second: all pods' queries come from the node's.
await node.pod('closed').namespace.sysctl({ 'net.ipv4.icmp_ratelimit': 0 });
const servfail = 'SERVFAIL';
/** Extended errors that say why: No Reachable Authority, Network Error (RFC 8914). */
const unreachable = [22, 23];

interface Timed {
  readonly reply: DnsReply;
  readonly tookMs: number;
}

async function ask(server: string, transport: 'udp' | 'tcp'): Promise<Timed> {
  const query = encodeQuestion({ server, name: 'n-1.allowed.test', ednsBytes: 1232 });
  if (transport === 'udp') {
    const { replies } = await client.udp({ to: server, port: 53, data: query, timeoutMs: 8000 });
    const [reply] = replies;
    assert.ok(reply !== undefined);
    return { reply: readReply(reply.data, reply.from), tookMs: reply.afterUs / 1000 };
  }
  const data = withLength(query);
  const { data: bytes, totalUs } = await client.tcp({
    ...{ to: server, port: 53, data, messages: 1, timeoutMs: 8000 },
  });
  return { reply: readReply(bytes.subarray(2), server), tookMs: totalUs / 1000 };
}

describe('the port of the server is closed', () => {
  for (const transport of ['udp', 'tcp'] as const) {
    test(`a query over ${transport} is answered with SERVFAIL within 50 ms, and with the reason`, async () => {
      // The first of a process also compiles what it runs.
      await ask(closedServer, transport).catch(() => undefined);
      const times: number[] = [];
      for (let i = 0; i < 5; i++) {
        const { reply, tookMs } = await ask(closedServer, transport);
        times.push(tookMs);
        assert.equal(reply.rcode, servfail);
        assert.ok(
          reply.extendedErrors.some((code) => unreachable.includes(code)),
          `extended errors ${reply.extendedErrors.join(' ')}`,
        );
      }
      const shown = times.map((ms) => ms.toFixed(1)).join(' ');
      console.log(`closed port, ${transport}: SERVFAIL after ${shown} ms`);
      // Most, not each: other tests share the CPUs, and one turn of the scheduler can be as long.
      assert.ok(times.filter((ms) => ms < 50).length >= 3, `${shown} ms`);
    });
  }

  test('a pod with a second nameserver is answered by that, at once', async () => {
    const resolvConf = [`nameserver ${closedServer}`, `nameserver ${clusterDns4}`];
    const direct = await lookUpByGlibc(freeSpace, 'n-2.allowed.test', resolvConf);
    const judged = await lookUpByGlibc(clientSpace, 'n-2.allowed.test', resolvConf);
    const show = ({ tookMs }: { tookMs: number }): string => `${tookMs.toFixed(0)} ms`;
    console.log(`second nameserver: without policy ${show(direct)}, with ${show(judged)}`);
    assert.deepEqual(direct.addresses, ['198.18.0.2']);
    assert.deepEqual(judged.addresses, ['198.18.0.2']);
    assert.ok(judged.tookMs < direct.tookMs + 500, show(judged));
  });

  test('a pod with that nameserver alone fails as soon as one without policy', async () => {
    const resolvConf = [`nameserver ${closedServer}`];
    const direct = await lookUpByGlibc(freeSpace, 'n-3.allowed.test', resolvConf);
    const judged = await lookUpByGlibc(clientSpace, 'n-3.allowed.test', resolvConf);
    console.log(
      `no other nameserver: without policy ${direct.tookMs.toFixed(0)} ms, with ${judged.tookMs.toFixed(0)} ms`,
    );
    assert.deepEqual(judged.addresses, []);
    assert.ok(judged.tookMs < direct.tookMs + 500, `${judged.tookMs} ms`);
  });
});

describe('the port of the server is closed, and its kernel limits ICMP errors as by default', () => {
  const limitedServer = node.pod('limited').ipv4 ?? '';
  const lookups = 12;

  test('each of many lookups in a row goes on to the second nameserver', async () => {
    const resolvConf = [`nameserver ${limitedServer}`, `nameserver ${clusterDns4}`];
    const tooks: number[] = [];
    for (let i = 0; i < lookups; i++) {
      const name = `n-${100 + i}.allowed.test`;
      const { addresses, tookMs } = await lookUpByGlibc(clientSpace, name, resolvConf);
      assert.equal(addresses.length, 1, name);
      tooks.push(Math.round(tookMs));
    }
    console.log(`second nameserver, limited: ${tooks.join(' ')} ms`);
    assert.ok(Math.max(...tooks) < 2500, `${Math.max(...tooks)} ms`);
  });

  test('of many queries at once each gets SERVFAIL', async () => {
    const rate = { server: limitedServer, rate: 100, seconds: 3, timeoutMs: 5000 };
    const options = { ...rate, nameFormat: 'n-%u.allowed.test', queriesPerPort: 1, sockets: 512 };
    await using running = startLoad(clientSpace, options);
    const result = await running.result;
    console.log(`limited, at once: ${describeLoss(result)}`);
    assert.equal(result.rcodes['2'], result.sent);
    assert.ok(result.maxUs < 2_500_000, `${result.maxUs} us`);
  });
});

test('while conntrack of the node takes no new connection, pods under DNS rules lose no query', async () => {
  const rules = (state: string): string =>
    `table inet full {\n chain output { type filter hook output priority -150\n ${state}\n }\n` +
    ` chain forward { type filter hook forward priority -150\n ${state}\n }\n}\n`;
  // As a full table does: the packet that would make an entry is dropped (nf_conntrack: table full).
  const drop = 'ct state new udp dport 53 counter drop';
  const rate = { server: clusterDns4, rate: 200, nameFormat: 'n-%u.allowed.test', nameCount: 500 };
  await using warm = startLoad(clientSpace, { ...rate, seconds: 2 });
  await warm.result;
  await node.node.run('nft', ['-f', '-'], rules(drop));
  try {
    await using judgedLoad = startLoad(clientSpace, { ...rate, seconds: 8 });
    await using directLoad = startLoad(freeSpace, { ...rate, seconds: 8, queriesPerPort: 1 });
    const [judged, direct] = await Promise.all([judgedLoad.result, directLoad.result]);
    const { stdout } = await tryRun(
      ...node.node.enter('nft', ['list', 'chain', 'inet', 'full', 'output']),
    );
    const dropped = Number(/packets (\d+)/.exec(stdout)?.[1]);
    console.log(
      `conntrack full: ${describeLoss(judged)}; ${dropped} dropped; without policy ${describeLoss(direct)}`,
    );
    assert.ok(dropped > 0, 'members open sockets meanwhile');
    assert.equal(lossOf(judged), 0);
  } finally {
    await node.node.run('nft', ['delete', 'table', 'inet', 'full']);
  }
});

/** Queries that a pod without policy may lose less by luck, by rate: those of the moment of the change. */
const luckOf = (rate: number): number => (rate < 10 ? 3 : 10);

describe('the server behind the ClusterIP is replaced', () => {
  let current: { readonly pod: Pod; readonly server: DnsServer } = {
    pod: node.pod('dns'),
    server: standard.dns,
  };
  for (const [i, replacement] of replacements.entries()) {
    const { rate, old, isTold, flushAfterMs } = replacement;
    const flush = flushAfterMs === null ? 'no flush' : `conntrack flushed after ${flushAfterMs} ms`;
    const title =
      `at ${rate} queries a second, ${old === 'removed' ? 'the old pod gone' : 'the old port closed'}, ` +
      `${flush}, the agent ${isTold ? 'told' : 'not told'}`;
    test(`${title}: a pod loses no more than one without policy`, async () => {
      const next = node.pod(spares[i] ?? '');
      const server = await serve(next);
      // Both members have all their sockets to the server that will go.
      await using warm = startLoad(clientSpace, loadOf(200, 2));
      await warm.result;
      const seconds = isFull ? (rate === 5 ? 60 : 20) : rate === 5 ? 12 : 6;
      await using judgedLoad = startLoad(clientSpace, loadOf(rate, seconds));
      await using directLoad = startLoad(freeSpace, loadOf(rate, seconds));
      await delay(1000);
      await replace(current, next, replacement);
      current = { pod: next, server };
      const [judged, direct] = await Promise.all([judgedLoad.result, directLoad.result]);
      console.log(`${title}: ${describeLoss(judged)}; without policy ${describeLoss(direct)}`);
      const [own, others] = [lossOf(judged), lossOf(direct)];
      assert.ok(own <= others + luckOf(rate), `${own} lost, ${others} without policy`);
    });
  }
});

function loadOf(rate: number, seconds: number): Parameters<typeof startLoad>[1] {
  return {
    ...{ server: clusterDns4, rate, seconds, nameFormat: 'n-%u.allowed.test', nameCount: 500 },
    // As resolvers ask: each query from a port of its own, waited for as long as glibc waits.
    ...{ queriesPerPort: 1, sockets: 1024, timeoutMs: 5000 },
  };
}

async function serve(pod: Pod): Promise<DnsServer> {
  const addresses = [pod.ipv4 ?? '', pod.ipv6 ?? ''];
  return node.own(await DnsServer.start(pod.namespace, { addresses, rules: standardRules }));
}

async function replace(
  { pod, server }: { readonly pod: Pod; readonly server: DnsServer },
  next: Pod,
  { old, isTold, flushAfterMs }: Replacement,
): Promise<void> {
  const services: ServiceSpec[] = standard.services.map((service) => ({
    ...service,
    backends: [
      { address: (service.clusterIp.includes(':') ? next.ipv6 : next.ipv4) ?? '', port: 53 },
    ],
  }));
  if (isTold) {
    tandem.write('kube-dns.yaml', serviceObjects('kube-dns', 'kube-system', services));
  }
  await Promise.all([
    node.setServices(services),
    // SIGKILL: the port is closed at once.
    (async () => process.kill(server.pid, 'SIGKILL'))(),
    ...(old === 'removed' ? [node.node.ip([`link set ${pod.hostInterface} down`])] : []),
  ]);
  if (flushAfterMs !== null) {
    await delay(flushAfterMs);
    // As kube-proxy does when a backend is gone.
    const entries = ['-p', 'udp', '--orig-dst', clusterDns4, '--reply-src', pod.ipv4 ?? ''];
    await tryRun(...node.node.enter('conntrack', ['-D', ...entries]));
  }
}

/** Not answered, or with an error. */
function lossOf({ sent, rcodes }: LoadResult): number {
  return sent - (rcodes['0'] ?? 0);
}

function describeLoss(result: LoadResult): string {
  const { sent, lost, rcodes, sendFailed, maxUs } = result;
  return (
    `${lossOf(result)} of ${sent} lost (${lost} unanswered, ${rcodes['2'] ?? 0} SERVFAIL, ` +
    `${sendFailed} not sent), slowest ${Math.round(maxUs / 1000)} ms`
  );
}
