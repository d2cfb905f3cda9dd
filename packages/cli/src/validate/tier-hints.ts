// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** ClusterNetworkPolicies of one tier and priority that may select one pod: the API leaves open which of them is asked first. */

import type { K8sObject, PolicyObject } from '@tandem/core/k8s/objects';
import type { Policy } from '@tandem/core/policy/model/rule';
import type { LabelSelector } from '@tandem/core/policy/model/selector';
import { parsePolicy } from '@tandem/core/policy/parse/parse-policy';
import type { Hint } from './network-policy-hints.ts';

export class TierHints {
  readonly #policies: readonly Policy[];

  constructor(objects: readonly K8sObject[]) {
    this.#policies = objects.flatMap((object) => {
      if (object.kind !== 'ClusterNetworkPolicy') return [];
      const parsed = parsePolicy(object);
      return parsed.ok ? [parsed.value] : [];
    });
  }

  of(object: PolicyObject): readonly Hint[] {
    if (object.kind !== 'ClusterNetworkPolicy') return [];
    const own = this.#policies.find(({ ref }) => ref.name === object.name);
    // Of two the one whose name comes later has the hint.
    const other = this.#policies.find(
      (each) => own !== undefined && each.ref.name < own.ref.name && mayConflict(own, each),
    );
    if (other === undefined) return [];
    const message = `is also that of ${other.ref.name} in the same tier, and both may select the same pods: the API does not say which is asked first. Give them different priorities`;
    return [{ path: 'spec.priority', message }];
  }
}

function mayConflict({ specs: [one] }: Policy, { specs: [other] }: Policy): boolean {
  if (one?.tier === undefined || other?.tier === undefined) return false;
  const isSame = one.tier.name === other.tier.name && one.tier.priority === other.tier.priority;
  const isOneDirection = (one.hasIngress && other.hasIngress) || (one.hasEgress && other.hasEgress);
  return isSame && isOneDirection && !areDisjoint(one.subject, other.subject);
}

/** Whether one label would need two values. */
function areDisjoint(one: LabelSelector, other: LabelSelector): boolean {
  const values = ({ requirements }: LabelSelector): readonly (typeof requirements)[number][] =>
    requirements.filter(({ operator }) => operator === 'In');
  return values(one).some((left) =>
    values(other).some(
      (right) =>
        left.name === right.name && !left.values.some((value) => right.values.includes(value)),
    ),
  );
}
