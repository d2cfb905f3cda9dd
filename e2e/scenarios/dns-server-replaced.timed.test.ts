// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The DNS server behind a ClusterIP is replaced, with the connections that conntrack has forgotten late or never: the pod
 * loses no more than one without policy does.
 */

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { DnsServer } from '@tandem/testing/dns-server';
import type { ServiceSpec } from '@tandem/testing/kube-proxy';
import type { Pod } from '@tandem/testing/netns';
import { tryRun } from '@tandem/testing/process';
import { describeLoss, lossOf, startLoad } from '../kit/load.ts';
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
const standard = await startStandardNode({
  pods: ['free', ...spares].map((name) => ({ name })),
  policies: [
    dnsPolicy({ selects: { app: 'client' }, dns: pattern, fqdns: pattern, dnsPeers: clusterDns }),
  ],
  podObjects: Object.fromEntries(spares.map((name) => [name, { namespace: 'kube-system' }])),
});
after(() => standard[Symbol.asyncDispose]());
const { node, tandem } = standard;
const clientSpace = node.pod('client').namespace;
const freeSpace = node.pod('free').namespace;

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
