// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Tiers of policy, in the order in which they are asked (docs/adr/0021-cluster-network-policy.md): the ordered rules of the Admin
 * tier; NetworkPolicies and Cilium's kinds, which have no order; the ordered rules of the Baseline tier; what holds for a pod that
 * nothing else isolates.
 */

import type { Verdict } from './kernel-numbers.ts';

/** 'network' has no order: deny beats L7-DNS beats allow. 'default' is what holds when no tier says anything. */
export type Tier = 'admin' | 'network' | 'baseline' | 'default';

/** 'pass' ends its tier for the packet, without a verdict. */
export type RuleVerdict = Exclude<Verdict, 0> | 'pass';

export interface Tiered {
  readonly tier: Tier;
  readonly verdict: RuleVerdict;
}

const tiers: readonly Tier[] = ['admin', 'network', 'baseline', 'default'];

/** Order of evaluation: by tier. Within a tier by `order`, text that is empty where there is none. */
export function compareTiered(
  left: Tiered & { readonly order: string },
  right: Tiered & { readonly order: string },
): number {
  if (left.tier !== right.tier) return tiers.indexOf(left.tier) - tiers.indexOf(right.tier);
  if (left.order === right.order) return 0;
  return left.order < right.order ? -1 : 1;
}

/** Whether the rule is of a ClusterNetworkPolicy: its place among the others counts. */
export function isOrdered({ tier }: Tiered): boolean {
  return tier === 'admin' || tier === 'baseline';
}

/**
 * The rules that decide; of an ordered tier it is the first one. `holding`: all that hold for one packet, in order of
 * evaluation. None: no tier says anything. Never has a 'pass'.
 */
export function deciding<Rule extends Tiered>(holding: readonly Rule[]): readonly Rule[] {
  for (const tier of tiers) {
    const own = holding.filter((rule) => rule.tier === tier);
    const [first] = own;
    if (first === undefined) continue;
    if (!isOrdered(first)) return own;
    if (first.verdict !== 'pass') return [first];
  }
  return [];
}
