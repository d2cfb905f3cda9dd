// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The node of the demo: three pods, unbound as cluster DNS, web servers on several addresses. */

import { readFileSync } from 'node:fs';
import type { ServiceSpec } from '@tandem/testing/kube-proxy';
import { createNode, type TestNode } from '@tandem/testing/netns';
import { Probe } from '@tandem/testing/probe';
import { Unbound } from '@tandem/testing/unbound';
import { namespaceObject, nodeObjects, podObject, serviceObjects } from '../kit/objects.ts';
import { TandemNode } from '../kit/tandem-node.ts';

export const clusterDns = '10.96.0.10';

/** Names and addresses of the demo's internet. */
export const names = {
  api: ['api.example.com', '203.0.113.10'],
  evil: ['exfil.example.org', '203.0.113.66'],
  cdn: ['img1.cdn.example.net', '203.0.113.21'],
  cdn2: ['img2.cdn.example.net', '203.0.113.22'],
  cdn3: ['img3.cdn.example.net', '203.0.113.23'],
  cdn4: ['img4.cdn.example.net', '203.0.113.24'],
} as const;

export interface Stage {
  readonly node: TestNode;
  readonly tandem: TandemNode;
  /** Under policy. */
  readonly shop: Probe;
  /** No policy selects it. */
  readonly batch: Probe;
}

export async function setStage(): Promise<Stage> {
  const node = await createNode({
    name: 'demo',
    pods: [{ name: 'shop' }, { name: 'batch' }, { name: 'dns' }],
  });
  const dnsAddress = node.pod('dns').ipv4 ?? '';
  const services: ServiceSpec[] = (['udp', 'tcp'] as const).map((protocol) => ({
    clusterIp: clusterDns,
    port: 53,
    protocol,
    backends: [{ address: dnsAddress, port: 53 }],
  }));
  await node.setServices(services);
  const shop = node.own(Probe.start(node.pod('shop').namespace));
  const batch = node.own(Probe.start(node.pod('batch').namespace));
  const internet = node.own(Probe.start(node.upstream));
  await internet.listen({ protocol: 'tcp', address: '0.0.0.0', port: 80 });
  node.own(
    await Unbound.start(node.pod('dns').namespace, {
      zones: { 'example.com': 'static', 'example.net': 'static', 'example.org': 'static' },
      data: Object.values(names).map(([name, address]) => `${name}. 60 IN A ${address}`),
    }),
  );
  const tandem = await TandemNode.create(node, { options: { 'fqdn-grace-seconds': 30 } });
  tandem.write('cluster.yaml', [
    namespaceObject('default'),
    namespaceObject('kube-system'),
    ...nodeObjects(),
    podObject(node.pod('shop')),
    podObject(node.pod('batch')),
    podObject(node.pod('dns'), { namespace: 'kube-system', labels: { 'k8s-app': 'kube-dns' } }),
    ...serviceObjects('kube-dns', 'kube-system', services),
  ]);
  tandem.write('shop.yaml', readFileSync(new URL('policies/shop.yaml', import.meta.url), 'utf8'));
  await tandem.start();
  return { node, tandem, shop, batch };
}
