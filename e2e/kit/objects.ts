// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Kubernetes objects as a test node has them: what an API server would hold for the same topology. */

import type { ServiceSpec } from '@tandem/testing/kube-proxy';
import type { Pod, TestNode } from '@tandem/testing/netns';
import { plan } from '@tandem/testing/node-plan';

export const nodeName = 'node-1';

export interface PodObject {
  readonly namespace?: string;
  readonly labels?: Readonly<Record<string, string>>;
  /** Condition Ready; default: the pod has no conditions. */
  readonly isReady?: boolean;
  readonly isDeleting?: boolean;
}

export function namespaceObject(name: string): object {
  return {
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: { name, labels: { 'kubernetes.io/metadata.name': name } },
  };
}

export function nodeObjects(): object[] {
  return [
    {
      apiVersion: 'v1',
      kind: 'Node',
      metadata: { name: nodeName },
      spec: { podCIDRs: ['10.1.0.0/24', '10.1.2.0/24', 'fd00:1:0::/64', 'fd00:1:2::/64'] },
      status: {
        addresses: [
          { type: 'InternalIP', address: plan.node4 },
          { type: 'InternalIP', address: plan.node6 },
        ],
      },
    },
    {
      apiVersion: 'v1',
      kind: 'Node',
      metadata: { name: 'node-2' },
      spec: { podCIDRs: [plan.remotePodCidr4, plan.remotePodCidr6] },
      status: {
        addresses: [
          { type: 'InternalIP', address: plan.remoteNode4 },
          { type: 'InternalIP', address: plan.remoteNode6 },
        ],
      },
    },
  ];
}

export function podObject(
  pod: Pick<Pod, 'name' | 'ipv4' | 'ipv6' | 'hostInterface'>,
  { namespace = 'default', labels = {}, isReady, isDeleting = false }: PodObject = {},
): object {
  const podIPs = [pod.ipv4, pod.ipv6].filter((ip) => ip !== null).map((ip) => ({ ip }));
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: pod.name,
      namespace,
      uid: `uid-${namespace}-${pod.name}`,
      labels: { app: pod.name, ...labels },
      annotations: { 'tandem.dev/interface': pod.hostInterface },
      ...(isDeleting ? { deletionTimestamp: '2026-01-01T00:00:00Z' } : {}),
    },
    spec: { nodeName, serviceAccountName: 'default', containers: [] },
    status: {
      ...{ phase: 'Running', podIP: podIPs[0]?.ip, podIPs },
      ...(isReady === undefined
        ? {}
        : { conditions: [{ type: 'Ready', status: isReady ? 'True' : 'False' }] }),
    },
  };
}

/** A Service with one EndpointSlice per address family, from kube-proxy's view of it. `selector`: of its pods. */
export function serviceObjects(
  name: string,
  namespace: string,
  services: readonly ServiceSpec[],
  selector?: Readonly<Record<string, string>>,
): object[] {
  const clusterIPs = [...new Set(services.map(({ clusterIp }) => clusterIp))];
  const ports = new Map(services.map((service) => [portName(service), service]));
  const slices = clusterIPs.map((clusterIp) => {
    const own = services.filter((service) => service.clusterIp === clusterIp);
    const isIpv6 = clusterIp.includes(':');
    const isEmpty = own.every(({ backends }) => backends.length === 0);
    return {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: {
        name: `${name}-${isIpv6 ? '6' : '4'}`,
        namespace,
        labels: { 'kubernetes.io/service-name': name },
      },
      addressType: isIpv6 ? 'IPv6' : 'IPv4',
      endpoints: [
        ...new Set(own.flatMap(({ backends }) => backends.map(({ address }) => address))),
      ].map((address) => ({ addresses: [address], conditions: { ready: true } })),
      ports: own.map((service) => ({
        name: portName(service),
        port: service.backends[0]?.port ?? service.port,
        protocol: service.protocol.toUpperCase(),
      })),
      // As the API server writes it.
      ...(isEmpty ? { endpoints: null, ports: null } : {}),
    };
  });
  return [
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name, namespace },
      spec: {
        type: 'ClusterIP',
        clusterIP: clusterIPs[0],
        clusterIPs,
        ports: [...ports.values()].map((service) => ({
          name: portName(service),
          port: service.port,
          protocol: service.protocol.toUpperCase(),
          targetPort: service.backends[0]?.port ?? service.port,
        })),
        ...(selector === undefined ? {} : { selector }),
      },
    },
    ...slices,
  ];
}

const portName = ({ protocol, port }: ServiceSpec): string =>
  port === 53 ? (protocol === 'udp' ? 'dns' : 'dns-tcp') : `${protocol}-${port}`;

export interface RedirectOptions {
  readonly name?: string;
  readonly namespace?: string;
  /** `addressMatcher` or `serviceMatcher`; default: Service kube-system/kube-dns. */
  readonly frontend?: object;
  /** Ports of redirectBackend; default: DNS over UDP and TCP, named as those of the Service. */
  readonly toPorts?: readonly object[];
}

export const redirectedDnsPorts: readonly object[] = [
  { port: '53', name: 'dns', protocol: 'UDP' },
  { port: '53', name: 'dns-tcp', protocol: 'TCP' },
];

/** A CiliumLocalRedirectPolicy to pods with the label k8s-app=node-local-dns. */
export function redirectPolicy(options: RedirectOptions = {}): object {
  const { name = 'node-local-dns', namespace = 'kube-system' } = options;
  return {
    apiVersion: 'cilium.io/v2',
    kind: 'CiliumLocalRedirectPolicy',
    metadata: { name, namespace },
    spec: {
      redirectFrontend: options.frontend ?? {
        serviceMatcher: { serviceName: 'kube-dns', namespace: 'kube-system' },
      },
      redirectBackend: {
        localEndpointSelector: { matchLabels: { 'k8s-app': 'node-local-dns' } },
        toPorts: options.toPorts ?? redirectedDnsPorts,
      },
    },
  };
}

export interface DnsPolicyOptions {
  readonly name?: string;
  readonly namespace?: string;
  /** Labels of the pods it selects. */
  readonly selects: Readonly<Record<string, string>>;
  /** Entries of rules.dns. */
  readonly dns: readonly object[];
  /** Entries of toFQDNs. */
  readonly fqdns: readonly object[];
  readonly ports?: readonly object[];
  /** Peers of the DNS rule; default: kube-dns. */
  readonly dnsPeers?: object;
}

/** The usual pair: DNS through kube-dns judged by name, and connections to those names. */
export function dnsPolicy(options: DnsPolicyOptions): object {
  const peers = options.dnsPeers ?? {
    toEndpoints: [
      {
        matchLabels: {
          'k8s:io.kubernetes.pod.namespace': 'kube-system',
          'k8s:k8s-app': 'kube-dns',
        },
      },
    ],
  };
  return {
    apiVersion: 'cilium.io/v2',
    kind: 'CiliumNetworkPolicy',
    metadata: { name: options.name ?? 'names', namespace: options.namespace ?? 'default' },
    spec: {
      endpointSelector: { matchLabels: options.selects },
      egress: [
        {
          ...peers,
          toPorts: [{ ports: [{ port: '53', protocol: 'ANY' }], rules: { dns: options.dns } }],
        },
        {
          toFQDNs: options.fqdns,
          ...(options.ports === undefined ? {} : { toPorts: [{ ports: options.ports }] }),
        },
      ],
    },
  };
}

export interface PolicyOptions {
  readonly name: string;
  readonly namespace?: string;
  /** Labels of the pods it selects. */
  readonly selects: Readonly<Record<string, string>>;
  readonly egress?: readonly object[];
  readonly ingress?: readonly object[];
}

/** A CiliumNetworkPolicy with rules as given. */
export function networkPolicy(options: PolicyOptions): object {
  const { name, namespace = 'default', selects, egress, ingress } = options;
  return {
    apiVersion: 'cilium.io/v2',
    kind: 'CiliumNetworkPolicy',
    metadata: { name, namespace },
    spec: {
      endpointSelector: { matchLabels: selects },
      ...(egress === undefined ? {} : { egress }),
      ...(ingress === undefined ? {} : { ingress }),
    },
  };
}

const cidrsPerRule = 1000;

/** Egress rules to so many addresses, each a prefix of its own: a large policy. */
export function manyCidrs(count: number): readonly object[] {
  const prefixes = Array.from(
    { length: count },
    (_, i) => `20.${(i >> 16) & 255}.${(i >> 8) & 255}.${i & 255}/32`,
  );
  return Array.from({ length: Math.ceil(count / cidrsPerRule) }, (_, i) => ({
    toCIDR: prefixes.slice(i * cidrsPerRule, (i + 1) * cidrsPerRule),
  }));
}

/** A whole manifest: namespace, nodes, the node's pods, and names under allowed.test for the pod `client`. */
export function manifestOf(node: Pick<TestNode, 'pods'>): string {
  const wanted = [{ matchPattern: '*.allowed.test' }];
  return [
    namespaceObject('default'),
    ...nodeObjects(),
    ...node.pods.map((pod) => podObject(pod)),
    dnsPolicy({
      selects: { app: 'client' },
      dns: wanted,
      fqdns: wanted,
      dnsPeers: { toEntities: ['all'] },
    }),
  ]
    .map((each) => JSON.stringify(each))
    .join('\n---\n');
}
