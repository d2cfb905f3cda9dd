// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A node with every kind of DNS server that a pod may ask: behind a ClusterIP, on the same bridge, on a
 * point-to-point veth, on a port other than 53 behind a Service, outside the cluster. Each server keeps
 * its own log of what it was asked; clients stand behind both kinds of interface.
 */

import { DnsServer, type SeenQuery } from '@tandem/testing/dns-server';
import type { ServiceSpec } from '@tandem/testing/kube-proxy';
import type { NodeSpec } from '@tandem/testing/node-plan';
import { Probe } from '@tandem/testing/probe';
import { serviceObjects } from './objects.ts';
import {
  clusterDns4,
  clusterDns6,
  type StandardNode,
  standardRules,
  startStandardNode,
} from './standard-node.ts';

/** A server's addresses as pods ask it. */
export interface ServerAddresses {
  readonly ipv4: string;
  readonly ipv6: string;
}

export interface RedirectNode extends StandardNode {
  /** Pods whose names are judged: "bridge" and "ptp"; "plain" may ask kube-dns by port alone; "free" has no policy. */
  readonly clients: Readonly<Record<'bridge' | 'ptp' | 'plain' | 'free', Probe>>;
  readonly servers: Readonly<
    Record<
      'clusterIp' | 'bridgePod' | 'ptpPod' | 'otherPort' | 'external' | 'oddFrontend',
      ServerAddresses
    >
  >;
  /** Queries for a name that any server got: none, if it never left the proxy. */
  seen(name: string): Promise<readonly SeenQuery[]>;
}

/** A frontend port that is not steered. */
export const oddPort = 5353;
const backendPort = 1053;
const external = { ipv4: '203.0.113.53', ipv6: '2001:db8:53::53' } as const;
const otherPort = { ipv4: '10.96.0.20', ipv6: 'fd00:96::20' } as const;
const oddFrontend = { ipv4: '10.96.0.30', ipv6: 'fd00:96::30' } as const;
const kubeDns = {
  toEndpoints: [{ matchLabels: { 'k8s:io.kubernetes.pod.namespace': 'kube-system' } }],
} as const;
const ptpDns = { toEndpoints: [{ matchLabels: { app: 'ptp-dns' } }] } as const;

/** Rules that hold for the two pods of `clients` whose names are judged. */
const judgedPolicy = {
  apiVersion: 'cilium.io/v2',
  kind: 'CiliumNetworkPolicy',
  metadata: { name: 'judged', namespace: 'default' },
  spec: {
    endpointSelector: {
      matchExpressions: [{ key: 'app', operator: 'In', values: ['client', 'ptp'] }],
    },
    egress: [
      dnsRule(kubeDns, 53),
      dnsRule(ptpDns, 53),
      dnsRule(ptpDns, backendPort),
      dnsRule({ toCIDR: [`${external.ipv4}/32`, `${external.ipv6}/128`] }, 53),
      { toFQDNs: [{ matchPattern: '*.allowed.test' }] },
    ],
  },
} as const;

const plainPolicy = {
  apiVersion: 'cilium.io/v2',
  kind: 'CiliumNetworkPolicy',
  metadata: { name: 'plain', namespace: 'default' },
  spec: {
    endpointSelector: { matchLabels: { app: 'plain' } },
    egress: [{ ...kubeDns, toPorts: [{ ports: [{ port: '53', protocol: 'ANY' }] }] }],
  },
} as const;

function dnsRule(peers: object, port: number): object {
  const ports = [{ port: String(port), protocol: 'ANY' }];
  return { ...peers, toPorts: [{ ports, rules: { dns: [{ matchPattern: '*.allowed.test' }] } }] };
}

export async function startRedirectNode(
  kubeProxy: NonNullable<NodeSpec['kubeProxy']>,
): Promise<RedirectNode> {
  const standard = await startStandardNode({
    kubeProxy,
    clientKind: 'bridge',
    dnsKind: 'bridge',
    pods: [
      { name: 'ptp-dns', kind: 'ptp' },
      { name: 'ptp', kind: 'ptp' },
      { name: 'free', kind: 'ptp' },
      { name: 'plain', kind: 'bridge' },
    ],
    policies: [judgedPolicy, plainPolicy],
  });
  try {
    return await complete(standard);
  } catch (error) {
    await standard[Symbol.asyncDispose]();
    throw error;
  }
}

/** Adds the other servers and their Services. */
async function complete(standard: StandardNode): Promise<RedirectNode> {
  const { node, tandem, dns } = standard;
  const bridgePod = addressesOf(standard, 'dns');
  const ptpPod = addressesOf(standard, 'ptp-dns');
  const start = async (pod: string, addresses: ServerAddresses, port = 53): Promise<DnsServer> => {
    const namespace = pod === 'internet' ? node.upstream : node.pod(pod).namespace;
    const options = { addresses: Object.values(addresses), port, rules: standardRules };
    return node.own(await DnsServer.start(namespace, options));
  };
  const all = [
    dns,
    await start('ptp-dns', ptpPod),
    await start('ptp-dns', ptpPod, backendPort),
    await start('internet', external),
  ];
  const otherServices = dnsServices(otherPort, 53, ptpPod, backendPort);
  const oddServices = dnsServices(oddFrontend, oddPort, ptpPod, 53);
  await node.setServices([...standard.services, ...otherServices, ...oddServices]);
  const before = tandem.appliedRevision();
  tandem.write('services.yaml', [
    ...serviceObjects('other-port', 'default', otherServices),
    ...serviceObjects('odd-frontend', 'default', oddServices),
  ]);
  await tandem.waitForRevision(before);
  const probe = (pod: string): Probe => node.own(Probe.start(node.pod(pod).namespace));
  return {
    ...standard,
    clients: {
      bridge: standard.client,
      ptp: probe('ptp'),
      plain: probe('plain'),
      free: probe('free'),
    },
    servers: {
      clusterIp: { ipv4: clusterDns4, ipv6: clusterDns6 },
      bridgePod,
      ptpPod,
      otherPort,
      external,
      oddFrontend,
    },
    seen: async (name) => (await Promise.all(all.map((server) => server.queries(name)))).flat(),
  };
}

function addressesOf({ node }: StandardNode, name: string): ServerAddresses {
  const { ipv4, ipv6 } = node.pod(name);
  if (ipv4 === null || ipv6 === null) throw new Error(`pod ${name} has one family`);
  return { ipv4, ipv6 };
}

function dnsServices(
  frontend: ServerAddresses,
  port: number,
  backend: ServerAddresses,
  targetPort: number,
): ServiceSpec[] {
  return (['udp', 'tcp'] as const).flatMap((protocol) =>
    (['ipv4', 'ipv6'] as const).map((family) => ({
      clusterIp: frontend[family],
      port,
      protocol,
      backends: [{ address: backend[family], port: targetPort }],
    })),
  );
}
