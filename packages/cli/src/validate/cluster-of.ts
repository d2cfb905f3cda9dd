// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The objects of files as the cluster that the agent would see, with their valid policies in force. */

import { isPolicyObject, type K8sObject, objectKey } from '@tandem/core/k8s/objects';
import type { ClusterState, PolicyState } from '@tandem/core/policy/model/cluster-state';
import { formatPolicyRef } from '@tandem/core/policy/model/rule';
import { parsePolicy } from '@tandem/core/policy/parse/parse-policy';

export function clusterOf(objects: readonly K8sObject[]): ClusterState {
  return {
    namespaces: byKey(objects, 'Namespace'),
    nodes: byKey(objects, 'Node'),
    pods: byKey(objects, 'Pod'),
    services: byKey(objects, 'Service'),
    endpointSlices: byKey(objects, 'EndpointSlice'),
    redirectPolicies: byKey(objects, 'CiliumLocalRedirectPolicy'),
    policies: policiesOf(objects),
    diagnostics: [],
  };
}

function byKey<K extends K8sObject['kind']>(
  objects: readonly K8sObject[],
  kind: K,
): ReadonlyMap<string, Extract<K8sObject, { kind: K }>> {
  const isOfKind = (object: K8sObject): object is Extract<K8sObject, { kind: K }> =>
    object.kind === kind;
  return new Map(objects.filter(isOfKind).map((object) => [objectKey(object), object]));
}

function policiesOf(objects: readonly K8sObject[]): ClusterState['policies'] {
  const policies = new Map<string, PolicyState>();
  for (const object of objects) {
    const parsed = isPolicyObject(object) ? parsePolicy(object) : null;
    if (parsed?.ok !== true) continue;
    policies.set(formatPolicyRef(parsed.value.ref), { inForce: parsed.value, invalid: null });
  }
  return policies;
}
