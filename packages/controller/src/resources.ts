// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Resources that the controller reads from the Kubernetes API while it leads. */

import type { Resource } from '@tandem/kube/resource';

export const networkPolicies: Resource = {
  path: '/apis/networking.k8s.io/v1/networkpolicies',
  apiVersion: 'networking.k8s.io/v1',
  kind: 'NetworkPolicy',
};

/** Kinds with a status whose definitions the controller keeps. */
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

/** Its definition is the Network Policy API's, which gives it a status with conditions of Kubernetes' own form. */
export const clusterPolicies: Resource = {
  path: '/apis/policy.networking.k8s.io/v1beta1/clusternetworkpolicies',
  apiVersion: 'policy.networking.k8s.io/v1beta1',
  kind: 'ClusterNetworkPolicy',
  definition: 'clusternetworkpolicies.policy.networking.k8s.io',
  alternatives: [
    {
      path: '/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies',
      apiVersion: 'policy.networking.k8s.io/v1alpha2',
    },
  ],
};

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
