// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Ways by which a late reply could reach the next pod with the address, as in `attacks-reuse-reply`: UDP and TCP, both families, both kinds of interfaces. */

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { encodeQuestion, withLength } from '@tandem/testing/dns-query';
import { Probe } from '@tandem/testing/probe';
import { waitFor } from '@tandem/testing/wait';
import { goOn } from '../kit/attack.ts';
import { endpointOf } from '../kit/endpoints.ts';
import { podObject } from '../kit/objects.ts';
import {
  clusterDns4,
  clusterDns6,
  standardRules,
  startStandardNode,
} from '../kit/standard-node.ts';

const delayMs = 7000;
const asClient = { labels: { app: 'client' } };
const dnsObject = { namespace: 'kube-system', labels: { 'k8s-app': 'kube-dns' } };

const ways = (['udp', 'tcp'] as const)
  .flatMap((transport) =>
    (['ptp', 'bridge'] as const).flatMap((kind) =>
      ([4, 6] as const).map((family) => ({ transport, kind, family })),
    ),
  )
  .map((way, i) => ({
    ...way,
    number: i,
    ipv4: way.kind === 'ptp' ? `10.1.0.${70 + i}` : `10.1.2.${70 + i}`,
    ipv6: way.kind === 'ptp' ? `fd00:1::${70 + i}` : `fd00:1:2::${70 + i}`,
    token: `late-of-${way.transport}-${way.kind}-${way.family}`,
  }));
const nameOf = ({ token }: (typeof ways)[number]): string => `${token}.allowed.test`;
const addressOf = ({ family, ipv4, ipv6 }: (typeof ways)[number]): string =>
  family === 4 ? ipv4 : ipv6;

const standard = await startStandardNode({
  pods: ways.map(({ kind, ipv4, ipv6, number }) => ({ name: `old${number}`, kind, ipv4, ipv6 })),
  podObjects: Object.fromEntries(ways.map(({ number }) => [`old${number}`, asClient])),
  rules: [
    ...ways.map((way) => ({
      suffix: nameOf(way),
      answers: [{ type: 'A' as const, data: '198.18.0.7' }],
      replies: [{ delayMs }],
    })),
    ...standardRules,
  ],
});
after(() => standard[Symbol.asyncDispose]());

test('a reply that comes late does not reach the pod that has the address by then', async () => {
  const { node, tandem, dns } = standard;
  const askedMs = performance.now();
  const probes = ways.map(({ number }) => Probe.start(node.pod(`old${number}`).namespace));
  await Promise.all(
    ways.map(async (way) => {
      const probe = probes[way.number]!;
      const server = way.family === 4 ? clusterDns4 : clusterDns6;
      const query = encodeQuestion({ server, name: nameOf(way) });
      if (way.transport === 'udp')
        await probe.udp({ to: server, port: 53, data: query, timeoutMs: 300 }).catch(goOn);
      else await probe.connect({ to: server, port: 53, data: withLength(query), want: 0 });
      await waitFor(async () => (await dns.queries(nameOf(way))).length === 1, { what: way.token });
    }),
  );
  for (const probe of probes) await probe[Symbol.asyncDispose]();
  const arrived = await Promise.all(
    ways.map(async (way) => {
      await node.removePod(`old${way.number}`);
      const { kind, ipv4, ipv6 } = way;
      const fresh = await node.addPod({ name: `fresh${way.number}`, kind, ipv4, ipv6 });
      const probe = node.own(Probe.start(fresh.namespace));
      return node.own(await probe.capture({ contains: way.token }));
    }),
  );
  const objectOf = (pod: (typeof node.pods)[number]): object =>
    podObject(pod, pod.name === 'dns' ? dnsObject : undefined);
  tandem.write('pods.yaml', node.pods.map(objectOf));
  for (const way of ways) {
    await waitFor(
      () =>
        endpointOf(tandem, addressOf(way))?.ifindex === node.pod(`fresh${way.number}`).hostIfindex,
      { what: 'the new pod to be known' },
    );
  }
  const leftMs = delayMs - (performance.now() - askedMs);
  assert.ok(leftMs > 0, 'the answer has not come yet');
  await sleep(leftMs + 1500);
  const reached: string[] = [];
  for (const way of ways) {
    const { matched } = await arrived[way.number]!.captured();
    if (matched > 0) reached.push(`${way.token}: ${matched}`);
  }
  assert.deepEqual(reached, []);
});
