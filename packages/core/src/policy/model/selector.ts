// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Label selectors after parsing: requirements that all must hold. A key has a source, `k8s` for labels
 * of Kubernetes, `reserved` for what has no labels there (reserved:host); `any` matches both.
 * Operators are those of Kubernetes: NotIn holds where the key is absent.
 */

import { type Identity, mayHave } from './labels.ts';

export type LabelSource = 'k8s' | 'reserved' | 'any';
export type LabelOperator = 'In' | 'NotIn' | 'Exists' | 'DoesNotExist';

export interface LabelRequirement {
  readonly source: LabelSource;
  readonly name: string;
  readonly operator: LabelOperator;
  /** Sorted and distinct; empty for Exists and DoesNotExist. */
  readonly values: readonly string[];
}

/** Requirements in canonical order, without repetition. None: matches every identity. */
export interface LabelSelector {
  readonly requirements: readonly LabelRequirement[];
}

/** A selector in canonical form. */
export function makeSelector(requirements: readonly LabelRequirement[]): LabelSelector {
  const byKey = new Map<string, LabelRequirement>();
  for (const requirement of requirements) {
    const values = [...new Set(requirement.values)].sort();
    const canonical = { ...requirement, values };
    byKey.set(requirementKey(canonical), canonical);
  }
  return {
    requirements: [...byKey.keys()].sort().map((key) => byKey.get(key) as LabelRequirement),
  };
}

/** Canonical text: equal texts are equal selectors. */
export function selectorKey(selector: LabelSelector): string {
  return selector.requirements.map(requirementKey).join(',');
}

/** True when every requirement is known to hold for the identity. */
export function selectorMatches(selector: LabelSelector, identity: Identity): boolean {
  return selector.requirements.every((requirement) => requirementHolds(requirement, identity));
}

function requirementHolds(requirement: LabelRequirement, identity: Identity): boolean {
  const value = valueOf(requirement, identity);
  if (value === undefined && identity.unknown !== undefined && mayHave(identity, requirement.name))
    return false;
  switch (requirement.operator) {
    case 'In':
      return value !== undefined && requirement.values.includes(value);
    case 'NotIn':
      return value === undefined || !requirement.values.includes(value);
    case 'Exists':
      return value !== undefined;
    case 'DoesNotExist':
      return value === undefined;
  }
}

function valueOf(requirement: LabelRequirement, identity: Identity): string | undefined {
  const { source, name } = requirement;
  const label = source === 'reserved' ? undefined : identity.labels.get(name);
  if (label !== undefined || source === 'k8s') return label;
  return identity.reserved.has(name) ? '' : undefined;
}

/** Values may hold no character that the text uses to separate; keys neither. */
function requirementKey({ source, name, operator, values }: LabelRequirement): string {
  return `${source}:${name} ${operator} ${JSON.stringify(values)}`;
}
