// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A node for policy without names: pods on point-to-point veths and on the bridge, a remote node with a
 * pod, the host, the internet, and Services to each of them, one with a node port. Every place listens
 * on the same few ports, so that what is refused is refused by policy.
 */

import type { ServiceSpec } from '@tandem/testing/kube-proxy';
import type { NodeSpec } from '@tandem/testing/node-plan';
import { plan } from '@tandem/testing/node-plan';
import { Probe } from '@tandem/testing/probe';
import { podObject, serviceObjects } from './objects.ts';
import { type StandardNode, startStandardNode } from './standard-node.ts';

export type Place = 'client' | 'web' | 'other' | 'left' | 'right' | 'node' | 'remote' | 'internet';

export const nodePort = 30_080;
/** ClusterIPs by what is behind them; all on port 80. */
export const services = {
  web: '10.96.1.10',
  web6: 'fd00:96:1::10',
  client: '10.96.1.11',
  right: '10.96.1.12',
  remote: '10.96.1.13',
  node: '10.96.1.14',
  left: '10.96.1.15',
} as const;

export interface ConnectionNode extends StandardNode {
  readonly probes: Readonly<Record<Place, Probe>>;
}

export async function startConnectionNode(
  kubeProxy: NonNullable<NodeSpec['kubeProxy']>,
  policies: readonly object[],
): Promise<ConnectionNode> {
  const standard = await startStandardNode({
    kubeProxy,
    pods: [
      { name: 'web', kind: 'ptp' },
      { name: 'other', kind: 'ptp' },
      { name: 'left', kind: 'bridge' },
      { name: 'right', kind: 'bridge' },
    ],
    policies,
  });
  try {
    return await complete(standard);
  } catch (error) {
    await standard[Symbol.asyncDispose]();
    throw error;
  }
}

async function complete(standard: StandardNode): Promise<ConnectionNode> {
  const { node, tandem, client, internet } = standard;
  // The probes of the node ping as those of pods may.
  await node.node.sysctl({ 'net.ipv4.ping_group_range': '0 2147483647' });
  const start = (namespace: Parameters<typeof Probe.start>[0]): Probe =>
    node.own(Probe.start(namespace));
  const probes = {
    client,
    internet,
    web: start(node.pod('web').namespace),
    other: start(node.pod('other').namespace),
    left: start(node.pod('left').namespace),
    right: start(node.pod('right').namespace),
    node: start(node.node),
    remote: start(node.remote),
  };
  for (const [place, probe] of Object.entries(probes)) {
    for (const address of ['0.0.0.0', '::']) {
      for (const port of [443, 6443, 6444, 8080, 9090]) {
        await probe.listen({ protocol: 'tcp', address, port });
      }
      if (place !== 'internet') await probe.listen({ protocol: 'udp', address, port: 8080 });
    }
  }
  const specs = serviceSpecs(standard);
  await node.setServices([...standard.services, ...specs]);
  const before = tandem.appliedRevision();
  const remotePod = podObject({
    name: 'remote',
    ipv4: plan.remotePod4,
    ipv6: plan.remotePod6,
    hostInterface: 'none',
  }) as { spec: object };
  tandem.write('more.yaml', [
    { ...remotePod, spec: { ...remotePod.spec, nodeName: 'node-2' } },
    ...specs.flatMap((spec, i) => serviceObjects(`service-${i}`, 'default', [spec])),
  ]);
  await tandem.waitForRevision(before);
  return { ...standard, probes };
}

function serviceSpecs({ node }: StandardNode): ServiceSpec[] {
  const backend = (name: string): string => node.pod(name).ipv4 ?? '';
  const tcp = (clusterIp: string, address: string, port = 8080): ServiceSpec => ({
    clusterIp,
    port: 80,
    protocol: 'tcp',
    backends: [{ address, port }],
  });
  const web = { ...tcp(services.web, backend('web')), nodePort };
  const web6 = { ...tcp(services.web6, node.pod('web').ipv6 ?? ''), nodePort };
  return [
    web,
    { ...web, protocol: 'udp' },
    web6,
    { ...web6, protocol: 'udp' },
    tcp(services.client, backend('client')),
    tcp(services.right, backend('right')),
    tcp(services.left, backend('left')),
    tcp(services.remote, plan.remotePod4),
    tcp(services.node, plan.node4, 6443),
  ];
}
