// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Random NetworkPolicies, as people write them: fields absent, null and empty, lists that repeat, several for one pod. */

import * as fc from 'fast-check';
import type { Raw } from './cluster.ts';

const pick = <T>(...values: readonly T[]): fc.Arbitrary<T> => fc.constantFrom(...values);

/** A field that may be absent, null or empty, which is the same to Kubernetes, or have a value. */
function optional(name: string, value: fc.Arbitrary<unknown>, empty?: unknown): fc.Arbitrary<Raw> {
  const blanks: readonly Raw[] = [
    {},
    { [name]: null },
    ...(empty === undefined ? [] : [{ [name]: empty }]),
  ];
  return fc.oneof(
    { arbitrary: pick(...blanks), weight: 1 },
    { arbitrary: value.map((given) => ({ [name]: given })), weight: 3 },
  );
}

const merged = (...parts: readonly fc.Arbitrary<Raw>[]): fc.Arbitrary<Raw> =>
  fc.tuple(...parts).map((all) => Object.assign({}, ...all) as Raw);

/* ---- selectors ---- */

/** Values by key. Most are of labels that the cluster has, so that selectors select something. */
type Vocabulary = Readonly<Record<string, readonly string[]>>;

const podWords: Vocabulary = {
  app: ['x', 'y', 'x', 'y', 'z', ''],
  tier: ['web', 'db', 'other'],
  'pod-template-hash': ['1', '2'],
  empty: ['', 'full'],
  'example.com/role': ['client', 'server'],
  absent: ['', 'present'],
};
const namespaceWords: Vocabulary = {
  'kubernetes.io/metadata.name': ['a', 'b', 'c', 'd'],
  team: ['one', 'two', ''],
  'x.beta.kubernetes.io/zone': ['1', '2'],
  empty: ['', 'full'],
  absent: ['', 'present'],
};

function selector(words: Vocabulary): fc.Arbitrary<Raw> {
  const key = pick(...Object.keys(words));
  const label = key.chain((name) =>
    pick(...(words[name] ?? [])).map((value) => ({ [name]: value })),
  );
  const expression = fc.oneof(
    key.chain((name) =>
      fc.record({
        key: fc.constant(name),
        operator: pick('In', 'NotIn'),
        values: fc.array(pick(...(words[name] ?? [])), { minLength: 1, maxLength: 3 }),
      }),
    ),
    merged(
      fc.record({ key, operator: pick('Exists', 'DoesNotExist') }),
      pick<Raw>({}, { values: null }, { values: [] }),
    ),
  );
  return fc.oneof(
    { arbitrary: pick<Raw>({}, { matchLabels: {}, matchExpressions: null }), weight: 1 },
    {
      arbitrary: merged(
        optional('matchLabels', fc.oneof(label, label, merged(label, label)), {}),
        optional('matchExpressions', fc.array(expression, { minLength: 1, maxLength: 2 }), []),
      ),
      weight: 3,
    },
  );
}

const podSelector = selector(podWords);
const namespaceSelector = selector(namespaceWords);

/* ---- peers and ports ---- */

const block = fc.oneof(
  ...(
    [
      ['198.51.100.0/24', '198.51.100.128/25', '198.51.100.7/32'],
      ['10.244.0.0/16', '10.244.0.0/24', '10.244.0.3/32', '10.244.1.2/32'],
      ['10.244.1.2/32'],
      ['10.244.1.64/26', '10.244.1.76/31'],
      ['0.0.0.0/0', '10.0.0.0/8', '192.168.0.0/16', '198.51.100.0/24'],
      ['192.168.0.0/23', '192.168.0.2/32'],
      ['::/0', 'fd00::/8', '2001:db8::/33', 'fd00:244:0:1::/64'],
      ['fd00:244::/48', 'fd00:244::/64', 'fd00:244:0:1::2/128'],
      ['2001:db8::/32', '2001:db8:1::/48'],
      ['fd00:168::2/128'],
    ] as const
  ).map(([cidr, ...excepts]) =>
    merged(fc.constant({ cidr }), optional('except', fc.subarray([...excepts]), [])),
  ),
);

const peer = fc.oneof(
  merged(fc.record({ podSelector }), pick<Raw>({}, { namespaceSelector: null }, { ipBlock: null })),
  merged(fc.record({ namespaceSelector }), pick<Raw>({}, { podSelector: null })),
  fc.record({ podSelector, namespaceSelector }),
  fc.record({ ipBlock: block }),
);

const numbers = pick(1, 53, 54, 79, 80, 81, 443, 8080, 65_535);
const protocol = fc.oneof(
  pick<Raw>({}, { protocol: null }),
  fc.record({ protocol: pick('TCP', 'UDP', 'SCTP') }),
);
const port = merged(
  protocol,
  fc.oneof(
    pick<Raw>({}, { port: null }),
    merged(fc.record({ port: numbers }), pick<Raw>({}, { endPort: null })),
    fc
      .tuple(numbers, numbers)
      .map(([one, two]) => ({ port: Math.min(one, two), endPort: Math.max(one, two) })),
    fc.record({ port: pick('http', 'dns', 'undeclared') }),
  ),
);

/* ---- policies ---- */

const rule = (own: 'from' | 'to'): fc.Arbitrary<Raw> =>
  merged(
    optional(own, fc.array(peer, { minLength: 1, maxLength: 3 }), []),
    optional('ports', fc.array(port, { minLength: 1, maxLength: 3 }), []),
  );
const types = pick(['Ingress'], ['Egress'], ['Ingress', 'Egress'], ['Egress', 'Ingress']);

const policy = fc.record({
  namespace: pick('a', 'a', 'b', 'c'),
  spec: merged(
    fc.oneof(pick<Raw>({}, { podSelector: null }, { podSelector: {} }), fc.record({ podSelector })),
    optional('policyTypes', types, []),
    optional('ingress', fc.array(rule('from'), { minLength: 1, maxLength: 2 }), []),
    optional('egress', fc.array(rule('to'), { minLength: 1, maxLength: 2 }), []),
  ),
});

const policySet: fc.Arbitrary<readonly Raw[]> = fc
  .array(policy, { minLength: 1, maxLength: 5 })
  .map((list) =>
    list.map(({ namespace, spec }, index) => ({
      ...{ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy' },
      metadata: { name: `np-${index}`, namespace },
      spec,
    })),
  );

/** Sets of policies that stand in one cluster together, `count` policies in all at least. */
export function generate(seed: number, count: number): readonly (readonly Raw[])[] {
  const sets: (readonly Raw[])[] = [];
  let policies = 0;
  for (const set of fc.sample(policySet, { seed, numRuns: count })) {
    if (policies >= count) break;
    sets.push(set);
    policies += set.length;
  }
  return sets;
}
