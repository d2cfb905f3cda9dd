// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Resources that the controller reads from the Kubernetes API while it leads. */

import type { Resource } from '@tandem/kube/resource';

export const networkPolicies: Resource = {
  path: '/apis/networking.k8s.io/v1/networkpolicies',
  apiVersion: 'networking.k8s.io/v1',
  kind: 'NetworkPolicy',
};

/** Kinds with a status. */
export const ciliumPolicies: readonly Resource[] = [
  {
    path: '/apis/cilium.io/v2/ciliumnetworkpolicies',
    apiVersion: 'cilium.io/v2',
    kind: 'CiliumNetworkPolicy',
    definition: 'ciliumnetworkpolicies.cilium.io',
  },
  {
    path: '/apis/cilium.io/v2/ciliumclusterwidenetworkpolicies',
    apiVersion: 'cilium.io/v2',
    kind: 'CiliumClusterwideNetworkPolicy',
    definition: 'ciliumclusterwidenetworkpolicies.cilium.io',
  },
];

export const nodes: Resource = { path: '/api/v1/nodes', apiVersion: 'v1', kind: 'Node' };

/** Pods of the chart's DaemonSets, in the namespace of the release. */
export function ownPods(namespace: string): Resource {
  return {
    path: `/api/v1/namespaces/${namespace}/pods`,
    apiVersion: 'v1',
    kind: 'Pod',
    labelSelector: 'app.kubernetes.io/name in (tandem-agent,tandem-dns-proxy)',
  };
}
