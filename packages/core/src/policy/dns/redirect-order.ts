// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Which CiliumLocalRedirectPolicy goes first where a node, or a frontend, has not room for all. */

import type { LocalRedirectPolicy } from '../../k8s/objects.ts';
import { objectKey } from '../../k8s/objects.ts';

/**
 * In which order policies get what a node has: those of the operator's namespaces, then the oldest one of each other
 * namespace, then the second one of each. So a namespace with many of them costs no other one its own.
 */
export function inTurn(
  policies: readonly LocalRedirectPolicy[],
  first: readonly string[],
): readonly LocalRedirectPolicy[] {
  const ranks = new Map<string, number>();
  return policies
    .toSorted(byAge)
    .map((policy) => {
      const { namespace } = policy;
      const rank = first.includes(namespace) ? 0 : (ranks.get(namespace) ?? 0) + 1;
      ranks.set(namespace, rank);
      return { policy, rank };
    })
    .sort((left, right) => left.rank - right.rank)
    .map(({ policy }) => policy);
}

/** The older policy of two with the same frontend has it, so that a new policy takes nothing from another one. */
function byAge(left: LocalRedirectPolicy, right: LocalRedirectPolicy): number {
  const key = (policy: LocalRedirectPolicy): string => `${policy.createdAt} ${objectKey(policy)}`;
  return key(left) < key(right) ? -1 : 1;
}
