// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The node that most scenarios use: a client pod under policy, a DNS server pod behind a ClusterIP, a web
 * server on every address of the internet, both processes running.
 */

import type { DnsRule } from '@tandem/testing/dns-script';
import { DnsServer } from '@tandem/testing/dns-server';
import type { ServiceSpec } from '@tandem/testing/kube-proxy';
import { createNode, type TestNode } from '@tandem/testing/netns';
import { type NodeSpec, type PodSpec, planPods } from '@tandem/testing/node-plan';
import { Probe } from '@tandem/testing/probe';
import { together } from '@tandem/testing/together';
import {
  dnsPolicy,
  namespaceObject,
  nodeObjects,
  type PodObject,
  podObject,
  serviceObjects,
} from './objects.ts';
import { TandemNode, type TandemNodeOptions } from './tandem-node.ts';

export const clusterDns4 = '10.96.0.10';
export const clusterDns6 = 'fd00:96::10';

/** Names n-<number>.allowed.test have addresses of the internet by their number; others are denied. */
export const standardRules: readonly DnsRule[] = [
  { suffix: 'allowed.test', numbered: { ipv4: '198.18.0.0', ipv6: '2001:db8:1::', ttl: 60 } },
  { suffix: 'denied.test', numbered: { ipv4: '198.19.0.0', ipv6: '2001:db8:2::', ttl: 60 } },
];

export interface StandardNodeOptions extends TandemNodeOptions {
  readonly kubeProxy?: NodeSpec['kubeProxy'];
  readonly rules?: readonly DnsRule[];
  /** Pods beside client and dns; they get labels app=<name> and no policy unless `policies` names them. */
  readonly pods?: readonly PodSpec[];
  readonly clientKind?: 'ptp' | 'bridge';
  readonly dnsKind?: 'ptp' | 'bridge';
  /** Port of the DNS server behind the ClusterIP. */
  readonly dnsPort?: number;
  /** Objects instead of the usual policy for app=client. */
  readonly policies?: readonly object[];
  /** Namespace and labels of pods by name; the others are in `default` with the label app=<name>. */
  readonly podObjects?: Readonly<Record<string, PodObject>>;
  readonly node?: Partial<NodeSpec>;
  /** Done before both processes start. */
  readonly prepare?: (node: TestNode) => Promise<void>;
}

export interface StandardNode extends AsyncDisposable {
  readonly node: TestNode;
  readonly tandem: TandemNode;
  readonly client: Probe;
  readonly internet: Probe;
  readonly dns: DnsServer;
  readonly services: readonly ServiceSpec[];
}

export const standardPolicy: object = dnsPolicy({
  selects: { app: 'client' },
  dns: [{ matchPattern: '*.allowed.test' }],
  fqdns: [{ matchPattern: '*.allowed.test' }],
});

export async function startStandardNode(options: StandardNodeOptions = {}): Promise<StandardNode> {
  const dnsPort = options.dnsPort ?? 53;
  const dnsKind = options.dnsKind ?? 'ptp';
  const pods: PodSpec[] = [
    { name: 'client', kind: options.clientKind ?? 'ptp' },
    { name: 'dns', kind: dnsKind },
    ...(options.pods ?? []),
  ];
  const planned = planPods(pods).find(({ name }) => name === 'dns');
  const services: ServiceSpec[] = (['udp', 'tcp'] as const).flatMap((protocol) => [
    {
      clusterIp: clusterDns4,
      port: 53,
      protocol,
      backends: [{ address: planned?.ipv4 ?? '', port: dnsPort }],
    },
    {
      clusterIp: clusterDns6,
      port: 53,
      protocol,
      backends: [{ address: planned?.ipv6 ?? '', port: dnsPort }],
    },
  ]);
  const node = await createNode({
    pods,
    services,
    kubeProxy: options.kubeProxy ?? 'iptables',
    ...options.node,
  });
  try {
    await options.prepare?.(node);
    const client = node.own(Probe.start(node.pod('client').namespace));
    const internet = node.own(Probe.start(node.upstream));
    const starting = startDns(node, options, dnsPort);
    // Ends after both processes, whenever it has started.
    node.own({
      [Symbol.asyncDispose]: () =>
        starting.then(
          (dns) => dns[Symbol.asyncDispose](),
          () => undefined,
        ),
    });
    const tandem = await TandemNode.create(node, options);
    const podObjects: Readonly<Record<string, PodObject>> = {
      dns: { namespace: 'kube-system', labels: { 'k8s-app': 'kube-dns' } },
      ...options.podObjects,
    };
    const namespaces = Object.values(podObjects).map(({ namespace = 'default' }) => namespace);
    tandem.write('cluster.yaml', [
      ...[...new Set(['default', ...namespaces])].map(namespaceObject),
      ...nodeObjects(),
      ...serviceObjects('kube-dns', 'kube-system', services),
    ]);
    tandem.write(
      'pods.yaml',
      node.pods.map((pod) => podObject(pod, podObjects[pod.name])),
    );
    tandem.write('policy.yaml', options.policies ?? [standardPolicy]);
    const [dns] = await together([
      starting,
      tandem.start(),
      ...['0.0.0.0', '::'].flatMap((address) =>
        (['tcp', 'udp'] as const).map((protocol) =>
          internet.listen({ protocol, address, port: 80 }),
        ),
      ),
    ]);
    const dispose = (): Promise<void> => node[Symbol.asyncDispose]();
    return { node, tandem, client, internet, dns, services, [Symbol.asyncDispose]: dispose };
  } catch (error) {
    await node[Symbol.asyncDispose]();
    throw error;
  }
}

function startDns(
  node: TestNode,
  { rules = standardRules }: StandardNodeOptions,
  port: number,
): Promise<DnsServer> {
  const { namespace, ipv4, ipv6 } = node.pod('dns');
  return DnsServer.start(namespace, { addresses: [ipv4 ?? '', ipv6 ?? ''], port, rules });
}
