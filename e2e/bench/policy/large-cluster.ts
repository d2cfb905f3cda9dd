// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A cluster of the size that the project is held to: objects as the API server gives them, pod by pod, so that
 * no process need hold them all. Labels, peers and addresses follow from numbers alone: each run has the same.
 */

import type { ListName } from '@tandem/agent/source/kube-resources';

export type Raw = Readonly<Record<string, unknown>>;

export interface ClusterSize {
  readonly remotePods: number;
  /** Different sets of labels of pods of other nodes, over `namespaces` namespaces. */
  readonly labelSets: number;
  readonly localPods: number;
  readonly policies: number;
  readonly services: number;
  readonly isDualStack: boolean;
}

export const sizeNames = ['small', 'tenth', 'whole', 'dual'] as const;
export const clusterSizes: Readonly<Record<(typeof sizeNames)[number], ClusterSize>> = {
  small: {
    ...{ remotePods: 1000, labelSets: 500, localPods: 250, policies: 1000, services: 200 },
    isDualStack: false,
  },
  tenth: {
    ...{ remotePods: 10_000, labelSets: 5000, localPods: 250, policies: 10_000, services: 2000 },
    isDualStack: false,
  },
  whole: {
    ...{ remotePods: 100_000, labelSets: 5000, localPods: 250, policies: 10_000, services: 2000 },
    isDualStack: false,
  },
  dual: {
    ...{ remotePods: 100_000, labelSets: 5000, localPods: 250, policies: 10_000, services: 2000 },
    isDualStack: true,
  },
};

/** Change of one object as the source gets it. */
export interface Told {
  readonly list: ListName;
  readonly key: string;
  readonly raw: Raw;
}

export const namespaces = 250;
const podsPerNode = 220;
export const localNode = 'node-local';
const dnsClusterIp = '10.96.0.10';

/** Everything of the cluster, once. */
export function* largeCluster(size: ClusterSize): Generator<Told> {
  for (let i = 0; i < namespaces; i++) yield namespaceObject(i);
  yield nodeObject(localNode, 0, size.isDualStack);
  for (let i = 0; i < Math.ceil(size.remotePods / podsPerNode); i++) {
    yield nodeObject(`node-${i}`, i + 1, size.isDualStack);
  }
  yield* clusterDns();
  for (let i = 0; i < size.services; i++) yield* serviceObjects(i, size);
  for (let i = 0; i < size.policies; i++) yield policyObject(i, 0);
  for (let i = 0; i < size.localPods; i++) yield localPod(i, size);
  for (let i = 0; i < size.remotePods; i++) yield remotePod(i, 0, size);
}

const nameOf = (ns: number): string => `team-${ns % namespaces}`;

function namespaceObject(i: number): Told {
  const name = nameOf(i);
  const labels = { 'kubernetes.io/metadata.name': name, tier: `t${i % 5}` };
  const raw = { apiVersion: 'v1', kind: 'Namespace', metadata: { name, uid: `ns-${i}`, labels } };
  return { list: 'namespaces', key: `/${name}`, raw };
}

/** Node `n` has 10.(64 + n / 256).(n % 256).0/24 and fd00:64:n::/64; addresses in 172.16.0.0/16. */
function nodeObject(name: string, n: number, isDualStack: boolean): Told {
  const podCIDRs = [`10.${64 + (n >> 8)}.${n & 255}.0/24`];
  if (isDualStack) podCIDRs.push(`fd00:64:${n.toString(16)}::/64`);
  const status = { addresses: [{ type: 'InternalIP', address: `172.16.${n >> 8}.${n & 255}` }] };
  const raw = {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name, uid: `node-${n}` },
    spec: { podCIDRs },
    status,
  };
  return { list: 'nodes', key: `/${name}`, raw };
}

function podIps(node: number, host: number, isDualStack: boolean): readonly { ip: string }[] {
  const ips = [{ ip: `10.${64 + (node >> 8)}.${node & 255}.${host}` }];
  if (isDualStack) ips.push({ ip: `fd00:64:${node.toString(16)}::${host.toString(16)}` });
  return ips;
}

function podObject(
  name: string,
  nodeName: string,
  meta: { readonly namespace: string; readonly labels: Raw },
  podIPs: readonly { ip: string }[],
): Raw {
  const { namespace, labels } = meta;
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      namespace,
      name,
      uid: `uid-${name}`,
      labels,
      creationTimestamp: '2026-11-28T00:00:00Z',
    },
    spec: {
      nodeName,
      serviceAccountName: 'default',
      containers: [{ name: 'c', ports: [{ name: 'http', containerPort: 8080 }] }],
    },
    status: { phase: 'Running', podIPs },
  };
}

/** Labels of application `app` of a namespace; `version` tells label sets of one application apart. */
function labelsOf(app: number, version: number): Raw {
  return {
    app: `app-${app}`,
    'app.kubernetes.io/name': `app-${app}`,
    'app.kubernetes.io/part-of': `suite-${app % 4}`,
    version: `v${version}`,
    'pod-template-hash': `h${app}${version}`,
  };
}

const appsPerNamespace = 10;

/** `life`: its pod of that number has the same labels and place, and another name. */
export function remotePod(i: number, life: number, size: ClusterSize): Told {
  const set = i % size.labelSets;
  const ns = set % namespaces;
  const inNamespace = Math.floor(set / namespaces);
  const app = inNamespace % appsPerNamespace;
  const version = Math.floor(inNamespace / appsPerNamespace);
  const node = Math.floor(i / podsPerNode);
  const name = `app-${app}-${i}-${life}`;
  const meta = { namespace: nameOf(ns), labels: labelsOf(app, version) };
  // A node gives an address again late: lives of a pod alternate between two.
  const host = 2 + (i % podsPerNode) + (life % 2) * 16;
  const ips = podIps(node + 1, Math.min(host, 254), size.isDualStack);
  return {
    list: 'pods of other nodes',
    key: `${meta.namespace}/${name}`,
    raw: podObject(name, `node-${node}`, meta, ips),
  };
}

export function localPod(i: number, size: ClusterSize, life = 0): Told {
  const ns = i % namespaces;
  const app = Math.floor(i / namespaces + i) % appsPerNamespace;
  const name = `local-${i}-${life}`;
  const meta = { namespace: nameOf(ns), labels: labelsOf(app, 0) };
  return {
    list: 'pods of this node',
    key: `${meta.namespace}/${name}`,
    raw: podObject(name, localNode, meta, podIps(0, 2 + i, size.isDualStack)),
  };
}

function* clusterDns(): Generator<Told> {
  const ns = 'kube-system';
  yield {
    list: 'namespaces',
    key: `/${ns}`,
    raw: { apiVersion: 'v1', kind: 'Namespace', metadata: { name: ns, uid: ns } },
  };
  const ips = ['10.64.1.250', '10.64.2.250'];
  for (const [i, ip] of ips.entries()) {
    const meta = { namespace: ns, labels: { 'k8s-app': 'kube-dns' } };
    const raw = podObject(`coredns-${i}`, `node-${i}`, meta, [{ ip }]);
    yield { list: 'pods of other nodes', key: `${ns}/coredns-${i}`, raw };
  }
  const ports = [
    { name: 'dns', port: 53, protocol: 'UDP' },
    { name: 'dns-tcp', port: 53, protocol: 'TCP' },
  ];
  yield* serviceAndSlice(ns, 'kube-dns', dnsClusterIp, ports, ips);
}

function* serviceObjects(i: number, size: ClusterSize): Generator<Told> {
  const ips = Array.from({ length: 5 }, (_, n) => {
    const pod = (i * 5 + n) % Math.max(1, size.remotePods);
    return podIps(Math.floor(pod / podsPerNode) + 1, 2 + (pod % podsPerNode), false)[0]?.ip ?? '';
  });
  const ports = [{ name: 'http', port: 80, protocol: 'TCP' }];
  yield* serviceAndSlice(nameOf(i), `service-${i}`, `10.96.${1 + (i >> 8)}.${i & 255}`, ports, ips);
}

function* serviceAndSlice(
  namespace: string,
  name: string,
  clusterIP: string,
  ports: readonly Raw[],
  ips: readonly string[],
): Generator<Told> {
  yield {
    list: 'services',
    key: `${namespace}/${name}`,
    raw: {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { namespace, name, uid: `service-${name}` },
      spec: { clusterIP, clusterIPs: [clusterIP], ports },
    },
  };
  yield {
    list: 'endpointslices',
    key: `${namespace}/${name}-1`,
    raw: {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      addressType: 'IPv4',
      metadata: {
        namespace,
        name: `${name}-1`,
        uid: `slice-${name}`,
        labels: { 'kubernetes.io/service-name': name },
      },
      endpoints: ips.map((ip) => ({ addresses: [ip], conditions: { ready: true } })),
      ports,
    },
  };
}

/**
 * Forty of each namespace, half of them NetworkPolicies: `version` changes a port and a peer. Two or three select each
 * pod; peers are labels of the same namespace and of others, whole namespaces, CIDRs with exceptions, and names.
 */
export function policyObject(i: number, version: number): Told {
  const ns = nameOf(i);
  const inNamespace = Math.floor(i / namespaces);
  const app = inNamespace % appsPerNamespace;
  const other = nameOf(i + 7 + version);
  const name = `policy-${i}`;
  const isNetworkPolicy = inNamespace % 2 === 0;
  const kind = isNetworkPolicy ? 'NetworkPolicy' : 'CiliumNetworkPolicy';
  return {
    list: isNetworkPolicy ? 'networkpolicies' : 'ciliumnetworkpolicies',
    key: `${ns}/${name}`,
    raw: {
      apiVersion: isNetworkPolicy ? 'networking.k8s.io/v1' : 'cilium.io/v2',
      kind,
      metadata: { namespace: ns, name, uid: `uid-${name}` },
      spec: isNetworkPolicy
        ? networkPolicySpec(app, other, 8000 + version)
        : ciliumSpec(i, app, other, 8000 + version),
    },
  };
}

function networkPolicySpec(app: number, other: string, port: number): Raw {
  const ports = [{ protocol: 'TCP', port }];
  return {
    podSelector: { matchLabels: { app: `app-${app}` } },
    policyTypes: ['Ingress', 'Egress'],
    ingress: [
      { from: [{ podSelector: { matchLabels: { app: `app-${(app + 1) % 10}` } } }], ports },
      {
        from: [
          {
            namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': other } },
            podSelector: { matchLabels: { app: `app-${(app + 3) % 10}` } },
          },
        ],
        ports: [{ protocol: 'TCP', port: 9090 }],
      },
    ],
    egress: [
      { to: [{ podSelector: { matchLabels: { app: `app-${(app + 2) % 10}` } } }] },
      {
        to: [{ ipBlock: { cidr: '0.0.0.0/0', except: ['10.0.0.0/8', '172.16.0.0/12'] } }],
        ports: [{ protocol: 'TCP', port: 443 }],
      },
    ],
  };
}

const tcp = (port: number): Raw => ({ ports: [{ port: String(port), protocol: 'TCP' }] });

function ciliumSpec(i: number, app: number, other: string, port: number): Raw {
  const namespaced = (name: string): Raw => ({ 'k8s:io.kubernetes.pod.namespace': name });
  return {
    endpointSelector: { matchLabels: { app: `app-${app}` } },
    ingress: [
      { fromEndpoints: [{ matchLabels: namespaced(other) }], toPorts: [tcp(port)] },
      { fromEntities: ['host'] },
    ],
    egress: [
      {
        toEndpoints: [{ matchLabels: { ...namespaced('kube-system'), 'k8s-app': 'kube-dns' } }],
        toPorts: [
          {
            ports: [{ port: '53', protocol: 'ANY' }],
            rules: { dns: [{ matchPattern: `*.p${i}.example.com` }] },
          },
        ],
      },
      { toFQDNs: [{ matchPattern: `*.p${i}.example.com` }], toPorts: [tcp(443)] },
      { toCIDRSet: [{ cidr: `203.0.${i & 255}.0/24`, except: [`203.0.${i & 255}.128/25`] }] },
      { toEndpoints: [{ matchLabels: { ...namespaced(other), app: `app-${(app + 5) % 10}` } }] },
    ],
  };
}
