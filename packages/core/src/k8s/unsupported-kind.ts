// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Kinds of network policy that this version does not enforce, with what to write in their place. */

import type { UnsupportedObject } from './objects.ts';

const group = 'policy.networking.k8s.io';
/** Kinds of the group's v1alpha1, with the tier that has their place. */
const replaced: Readonly<Record<string, string>> = {
  AdminNetworkPolicy: 'Admin',
  BaselineAdminNetworkPolicy: 'Baseline',
};
/** Other software's kinds without a namespace. */
const ofCluster = /^(Global|Cluster|Clusterwide|StagedGlobal)NetworkPolicy$/i;

/** Clause after "it is not enforced: ". */
export function kindAdvice({ apiVersion, originalKind }: UnsupportedObject): string {
  if (/List$/i.test(originalKind)) return 'put the objects of the list under items, in lower case';
  const tier = Object.hasOwn(replaced, originalKind) ? replaced[originalKind] : undefined;
  if (tier !== undefined && apiVersion.startsWith(`${group}/`)) {
    const priority = tier === 'Admin' ? '' : ' and a priority';
    return `write it as a ClusterNetworkPolicy of ${group}/v1beta1 with tier: ${tier}${priority}, Accept for Allow, and protocols for ports`;
  }
  return ofCluster.test(originalKind)
    ? `write it as a ClusterNetworkPolicy of ${group}/v1beta1 or a CiliumClusterwideNetworkPolicy, or remove it`
    : 'write it as a NetworkPolicy or CiliumNetworkPolicy, or remove it';
}
