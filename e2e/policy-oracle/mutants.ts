// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** NetworkPolicies with one thing wrong, or odd: a value of another type or beyond a limit, a field too many, too few or misspelt. */

import * as fc from 'fast-check';
import type { Raw } from './cluster.ts';
import { generate } from './policies.ts';

type Step = string | number;

const values: readonly unknown[] = [
  ...[null, true, false, 0, 1, -1, 80, 80.5, 65_535, 65_536, 1e21],
  ...['', ' ', 'x', 'X', 'a b', '80', '-a', 'a-', 'A.b_c', '.', 'http', 'tcp', 'a'.repeat(64)],
  ...['ingress', 'Ingress', 'TCP', 'ICMP', 'exists', 'Exists', 'In', 'NotIn', 'Gt'],
  ...[
    '10.0.0.0/8',
    '10.0.0.0',
    '10.0.0.1/8',
    '010.0.0.0/8',
    '10.0.0.0/33',
    '10.0.0.0/08',
    '10.0/16',
  ],
  ...['::/0', '::/129', '2001:DB8::/32', '::ffff:10.0.0.0/104', 'fe80::%1/64', '0.0.0.0/0'],
  ...[
    'example.com/role',
    'Example.com/role',
    'a/b/c',
    '/a',
    'a/',
    '8',
    'http-alt',
    'a--b',
    'abcdefghijklmnop',
  ],
  ...[[], {}, [{}], [null], ['x'], { x: 'y' }, { matchLabels: { app: 'x' } }],
];
const fields: readonly string[] = [
  ...[
    'podSelector',
    'namespaceSelector',
    'ipBlock',
    'from',
    'to',
    'ports',
    'port',
    'endPort',
    'protocol',
  ],
  ...[
    'matchLabels',
    'matchExpressions',
    'key',
    'operator',
    'values',
    'cidr',
    'except',
    'policyTypes',
  ],
  ...[
    'ingress',
    'egress',
    'spec',
    'metadata',
    'name',
    'namespace',
    'labels',
    'annotations',
    'status',
  ],
  ...['matchlabels', 'policyType', 'PodSelector', 'Ports', 'x', ''],
];

const isMapping = (value: unknown): value is Raw =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Paths of all values of the object, but the object itself. */
function pathsOf(value: unknown, before: readonly Step[] = []): readonly (readonly Step[])[] {
  const entries: readonly (readonly [Step, unknown])[] = Array.isArray(value)
    ? value.map((item, index) => [index, item] as const)
    : isMapping(value)
      ? Object.entries(value)
      : [];
  return entries.flatMap(([step, item]) => {
    const path = [...before, step];
    return [path, ...pathsOf(item, path)];
  });
}

function changed(value: unknown, [step, ...rest]: readonly Step[], change: Change): unknown {
  if (step === undefined) return change(value);
  const put = (item: unknown): unknown => changed(item, rest, change);
  if (Array.isArray(value)) {
    const items = value.map((item, index) => (index === step ? put(item) : item) as unknown);
    return items.filter((item) => item !== removed);
  }
  const entries = Object.entries(value as Raw).map(
    ([key, item]) => [key, key === step ? put(item) : item] as const,
  );
  return Object.fromEntries(entries.filter(([, item]) => item !== removed));
}

type Change = (value: unknown) => unknown;
const removed = Symbol('removed');

const changes: fc.Arbitrary<Change> = fc.oneof(
  fc.constantFrom(...values).map(
    (value): Change =>
      () =>
        value,
  ),
  fc.constant<Change>(() => removed),
  fc.tuple(fc.constantFrom(...fields), fc.constantFrom(...values)).map(
    ([field, value]): Change =>
      (given) =>
        isMapping(given) ? { ...given, [field]: value } : given,
  ),
  fc.constantFrom(...fields).map(
    (field): Change =>
      (given) =>
        isMapping(given)
          ? Object.fromEntries(Object.entries(given).map(([key, item]) => [field || key, item]))
          : given,
  ),
  // A list where one item is meant, one item where a list is, an item twice.
  fc.constant<Change>((given) => [given]),
  fc.constant<Change>((given) => (Array.isArray(given) ? given[0] : given)),
  fc.constant<Change>((given) => (Array.isArray(given) ? [...given, ...given] : given)),
);

export function mutants(seed: number, count: number): readonly Raw[] {
  const policies = generate(seed, count).flat().slice(0, count);
  const random = fc.sample(fc.tuple(fc.nat(), changes), { seed, numRuns: count });
  return policies.map((policy, index) => {
    const paths = [[], ...pathsOf(policy)];
    const [choice = 0, change = () => null] = random[index] ?? [];
    const mutant = changed(policy, paths[choice % paths.length] ?? [], change);
    return isMapping(mutant) ? mutant : policy;
  });
}
