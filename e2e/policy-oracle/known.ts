// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Where Cyclonus 0.5.6 is known to be wrong, and how to ask it the same in words that it gets right. Kubernetes' words are
 * those of `labels.Requirement.Matches`: NotIn holds where the key is absent, an empty value is not an absent key.
 */

import type { Raw } from './cluster.ts';

const list = (value: unknown): readonly Raw[] => (Array.isArray(value) ? (value as Raw[]) : []);

/** The policies, each perhaps as several that allow the same together. */
export function forCyclonus(policies: readonly Raw[]): readonly Raw[] {
  return policies.flatMap((policy) => {
    const { podSelector, ingress, egress, ...rest } = policy['spec'] as Raw;
    return selectors(podSelector).map((selector, index) => {
      const { name, namespace } = policy['metadata'] as { name: string; namespace: string };
      const spec: Record<string, unknown> = { ...rest, podSelector: selector };
      if (ingress !== undefined) spec['ingress'] = rules(ingress, 'from');
      if (egress !== undefined) spec['egress'] = rules(egress, 'to');
      return { ...policy, metadata: { name: `${name}-${index}`, namespace }, spec };
    });
  });
}

function rules(given: unknown, own: 'from' | 'to'): unknown {
  if (!Array.isArray(given)) return given;
  return list(given).map((rule) => {
    const peers = rule[own];
    return Array.isArray(peers) ? { ...rule, [own]: list(peers).flatMap(peersOf) } : rule;
  });
}

function peersOf(peer: Raw): readonly Raw[] {
  const { podSelector, namespaceSelector } = peer;
  return selectors(podSelector).flatMap((pods) =>
    selectors(namespaceSelector).map((ofNamespaces) => ({
      ...peer,
      ...(pods === undefined ? {} : { podSelector: pods }),
      ...(ofNamespaces === undefined ? {} : { namespaceSelector: ofNamespaces }),
    })),
  );
}

/** Selectors that together select what the given one does. */
function selectors(given: unknown): readonly unknown[] {
  if (given === undefined || given === null) return [given];
  const { matchLabels, matchExpressions } = given as Raw;
  const equal = Object.entries((matchLabels ?? {}) as Raw).map(([key, value]) => [
    { key, operator: 'In', values: [value] },
  ]);
  const others = list(matchExpressions).map(({ key, operator, values }) => [
    { key, operator, ...(values === undefined ? {} : { values }) },
    ...(operator === 'NotIn' ? [{ key, operator: 'DoesNotExist' }] : []),
  ]);
  const choices = [...equal, ...others].reduce<readonly (readonly unknown[])[]>(
    (chosen, either) => chosen.flatMap((before) => either.map((one) => [...before, one])),
    [[]],
  );
  return choices.map((expressions) =>
    expressions.length === 0 ? {} : { matchExpressions: expressions },
  );
}

const everyPod = (...from: readonly Raw[]): Raw => ({
  ...{ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy' },
  metadata: { name: 'known', namespace: 'a' },
  spec: { podSelector: {}, ingress: [{ from }] },
});

/** A policy for each, to see when Cyclonus mends it. */
export const knownDifferences: readonly Raw[] = [
  everyPod({
    podSelector: { matchExpressions: [{ key: 'absent', operator: 'NotIn', values: ['x'] }] },
  }),
  everyPod({ podSelector: { matchLabels: { absent: '' } } }),
];
