// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The world of universe.ts as Kubernetes objects, read by the agent's own builder: a cluster for each variant of policy. */

import { ClusterBuilder } from '@tandem/agent/policy/cluster-builder';
import type { ClusterState } from '@tandem/core/policy/model/cluster-state';
import { type PodRules, pods, type SimPod, servers, variants } from './universe.ts';

const clusterDns = {
  matchLabels: { 'k8s:io.kubernetes.pod.namespace': 'kube-system', 'k8s-app': 'kube-dns' },
};
const dnsPorts = ['UDP', 'TCP'].map((protocol) => ({
  name: `dns-${protocol.toLowerCase()}`,
  port: 53,
  protocol,
}));
/** The pod behind the Service that pods ask: another one under half of the policies. */
export const backendOf = (variant: number): string => `10.1.1.${53 + (variant & 1)}`;
/** Under one policy a pod was replaced by another one with its name and its address. */
const uidOf = (pod: string, variant: number): string =>
  `uid-${pod}${pod === 'job' && variant === 2 ? '-again' : ''}`;
/** The Service that pods ask, and the pod behind it, on another node. */
const clusterDnsObjects = (variant: number): readonly object[] => [
  {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: 'dns',
      namespace: 'kube-system',
      uid: 'uid-dns',
      labels: { 'k8s-app': 'kube-dns' },
    },
    spec: { nodeName: 'two' },
    status: { phase: 'Running', podIPs: [{ ip: backendOf(variant) }] },
  },
  {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'kube-dns', namespace: 'kube-system' },
    spec: { clusterIP: servers[0], clusterIPs: [servers[0]], ports: dnsPorts },
  },
  {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: {
      name: 'kube-dns-4',
      namespace: 'kube-system',
      labels: { 'kubernetes.io/service-name': 'kube-dns' },
    },
    addressType: 'IPv4',
    endpoints: [{ addresses: [backendOf(variant)] }],
    ports: dnsPorts,
  },
];

function policyObject(pod: SimPod, { asks, connects }: PodRules): object {
  const dns = asks.flatMap((patterns, server) =>
    patterns.length === 0
      ? []
      : [
          {
            ...(server === 0
              ? { toEndpoints: [clusterDns] }
              : { toCIDR: [`${servers[server]}/32`] }),
            toPorts: [
              {
                ports: [{ port: '53', protocol: 'ANY' }],
                rules: { dns: patterns.map((matchPattern) => ({ matchPattern })) },
              },
            ],
          },
        ],
  );
  const fqdns =
    connects.length === 0 ? [] : [{ toFQDNs: connects.map((matchPattern) => ({ matchPattern })) }];
  const egress = [...dns, ...fqdns];
  return {
    apiVersion: 'cilium.io/v2',
    kind: 'CiliumNetworkPolicy',
    metadata: { name: pod.name, namespace: pod.namespace },
    spec: {
      endpointSelector: { matchLabels: { app: pod.name } },
      egress: egress.length > 0 ? egress : [{}],
    },
  };
}

function clusterOf(rules: readonly PodRules[], variant: number): ClusterState {
  const objects = [
    ...['shop', 'lab', 'kube-system'].map((name) => ({
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name, labels: {} },
    })),
    {
      apiVersion: 'v1',
      kind: 'Node',
      metadata: { name: 'one' },
      spec: { podCIDRs: ['10.1.0.0/24'] },
      status: { addresses: [{ type: 'InternalIP', address: '192.168.0.1' }] },
    },
    ...pods.map(({ name, namespace, ip }) => ({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name, namespace, uid: uidOf(name, variant), labels: { app: name } },
      spec: { nodeName: 'one' },
      status: { phase: 'Running', podIPs: [{ ip }] },
    })),
    ...clusterDnsObjects(variant),
    ...pods.map((pod, index) => policyObject(pod, rules[index] as PodRules)),
  ];
  const state = new ClusterBuilder().build({
    objects: objects.map((raw, document) => ({
      file: 'sim',
      document,
      line: 1,
      raw,
      damage: null,
    })),
    problems: [],
  });
  const problem =
    state.diagnostics[0] ?? [...state.policies.values()].find(({ invalid }) => invalid !== null);
  if (problem !== undefined) throw new TypeError(JSON.stringify(problem));
  return state;
}

export const clusters: readonly ClusterState[] = variants.map(clusterOf);
