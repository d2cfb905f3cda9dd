// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Resources that the agent reads from the Kubernetes API. */

import {
  ciliumClusterwidePolicies,
  ciliumPolicies,
  ciliumRedirectPolicies,
  clusterPolicies,
  networkPolicies,
} from '@tandem/kube/policy-resources';
import type { Resource } from '@tandem/kube/resource';

const pods = { path: '/api/v1/pods', apiVersion: 'v1', kind: 'Pod' } as const;

/** One for each list. */
export type ListName =
  | 'namespaces'
  | 'nodes'
  | 'pods of this node'
  | 'pods of other nodes'
  | 'services'
  | 'endpointslices'
  | 'networkpolicies'
  | 'ciliumnetworkpolicies'
  | 'ciliumclusterwidenetworkpolicies'
  | 'ciliumlocalredirectpolicies'
  | 'clusternetworkpolicies';

export interface SourceResource extends Resource {
  readonly list: ListName;
}

/** Finished ones have addresses that may be another's by now. */
export function podsOfOtherNodes(nodeName: string): Resource {
  const notFinished = 'status.phase!=Succeeded,status.phase!=Failed';
  return { ...pods, fieldSelector: `spec.nodeName!=${nodeName},${notFinished}` };
}

/** All but the pods of other nodes. `nodeName`: of this node, whose pods are read apart from the many others. */
export function kubeResources(nodeName: string): readonly SourceResource[] {
  return [
    { list: 'namespaces', path: '/api/v1/namespaces', apiVersion: 'v1', kind: 'Namespace' },
    { list: 'nodes', path: '/api/v1/nodes', apiVersion: 'v1', kind: 'Node' },
    { list: 'pods of this node', ...pods, fieldSelector: `spec.nodeName=${nodeName}` },
    { list: 'services', path: '/api/v1/services', apiVersion: 'v1', kind: 'Service' },
    {
      list: 'endpointslices',
      path: '/apis/discovery.k8s.io/v1/endpointslices',
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
    },
    { list: 'networkpolicies', ...networkPolicies },
    { list: 'ciliumnetworkpolicies', ...ciliumPolicies },
    { list: 'ciliumclusterwidenetworkpolicies', ...ciliumClusterwidePolicies },
    { list: 'ciliumlocalredirectpolicies', ...ciliumRedirectPolicies },
    { list: 'clusternetworkpolicies', ...clusterPolicies },
  ];
}
