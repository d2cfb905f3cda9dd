// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Resources that the controller reads from the Kubernetes API while it leads. */

import { ciliumClusterwidePolicies, ciliumPolicies } from '@tandem/kube/policy-resources';
import type { Resource } from '@tandem/kube/resource';

/** Kinds with a status whose definitions the controller keeps. */
export const ciliumKinds: readonly Resource[] = [ciliumPolicies, ciliumClusterwidePolicies];

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
