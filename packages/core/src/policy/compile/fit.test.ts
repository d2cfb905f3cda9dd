// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  basicObjects,
  ccnp,
  clusterOf,
  cnp,
  compileObjects,
  dnsRule,
  node,
  pod,
  type Raw,
} from '../../../test/cluster-fixture.ts';
import type { ClusterState } from '../model/cluster-state.ts';
import type { Compiled } from '../model/desired.ts';
import { StableIds } from '../model/stable-ids.ts';
import { countEntries, expandPolicy } from './expand.ts';
import { compileFitting, FittingCompiler } from './fit.ts';
import { type Budgets, nodeBudgets, ResourceCounter } from './fit-costs.ts';

const web = { matchLabels: { app: 'web' } };
const options = { node, revision: 1 };

function cidrs(count: number, from: number): readonly string[] {
  return Array.from({ length: count }, (_, i) => `100.${from}.${i}.0/24`);
}

const egress = (name: string, element: Raw): Raw =>
  cnp(`shop/${name}`, { endpointSelector: web, egress: [element] });

function fitting(cluster: ClusterState, budgets: Partial<Budgets>): Compiled {
  return compileFitting(cluster, options, StableIds.empty(), { ...nodeBudgets, ...budgets });
}

function leftOut({ diagnostics }: Compiled): readonly string[] {
  const found = diagnostics.filter(({ code }) => code === 'policy-left-out');
  return found.map(({ subject }) => subject.replace(/^.*\//, '')).sort();
}

test('the largest objects are left out until the rest fits, each named with what it takes', () => {
  const objects = [
    egress('small', { toCIDR: cidrs(5, 1) }),
    egress('large', { toCIDR: cidrs(90, 2) }),
    egress('larger', { toCIDR: cidrs(100, 3) }),
  ];
  const cluster = clusterOf([...basicObjects, ...objects]);
  const rows: readonly (readonly [classes: number, left: readonly string[]])[] = [
    [500, []],
    [150, ['larger']],
    [100, ['large', 'larger']],
  ];
  for (const [classes, left] of rows) {
    const compiled = fitting(cluster, { classes });
    assert.equal(compiled.fits, true);
    assert.deepEqual(leftOut(compiled), left, `${classes}`);
    assert.deepEqual(fitting(cluster, { classes }).diagnostics, compiled.diagnostics, 'always so');
  }
  const [first] = fitting(cluster, { classes: 150 }).diagnostics;
  assert.match(first?.message ?? '', /need \d+ of classes, there is room for 150.*takes about 100/);
  assert.match(first?.message ?? '', /the pods it selects are denied everything/);
});

test('many small objects of a namespace cost no other namespace its large one', () => {
  const many = Array.from({ length: 60 }, (_, i) => egress(`small-${i}`, { toCIDR: cidrs(5, i) }));
  const toBlocks = { endpointSelector: {}, egress: [{ toCIDR: cidrs(90, 200) }] };
  const objects = [
    pod('bank/teller', {}, 'one', '10.244.0.9'),
    cnp('bank/large', toBlocks),
    ccnp('clusterwide', toBlocks),
  ];
  const compiled = fitting(clusterOf([...basicObjects, ...many, ...objects]), { classes: 300 });
  assert.equal(compiled.fits, true);
  assert.ok(leftOut(compiled).length > 20);
  assert.deepEqual(
    leftOut(compiled).filter((name) => !name.startsWith('small-')),
    [],
  );
  assert.ok(leftOut(compiled).length < 30, 'and of its own no more than need be');
});

test('selectors that tell many pods apart cost whose they are, not a policy for all pods', () => {
  const app = (i: number): Raw => ({ matchLabels: { app: `a${i}` } });
  const numbers = Array.from({ length: 60 }, (_, i) => i);
  const pods = numbers.map((i) => pod(`shop/p${i}`, { app: `a${i}` }, 'two', `10.244.9.${i}`));
  const tenants = numbers.map((i) =>
    egress(`small-${i}`, {
      toEndpoints: [app(i)],
      toPorts: [{ ports: [{ port: '80', protocol: 'TCP' }] }],
    }),
  );
  const ports = Array.from({ length: 20 }, (_, i) => 1000 + 2 * i);
  const toPorts = [{ ports: ports.map((port) => ({ port: `${port}`, protocol: 'TCP' })) }];
  const everybody = ccnp('everybody', {
    endpointSelector: {},
    egress: [
      { toEndpoints: [{ matchExpressions: [{ key: 'app', operator: 'Exists' }] }], toPorts },
    ],
  });
  const administrator = {
    ...{ apiVersion: 'policy.networking.k8s.io/v1beta1', kind: 'ClusterNetworkPolicy' },
    metadata: { name: 'administrator' },
    spec: {
      ...{ tier: 'Admin', priority: 1, subject: { namespaces: {} } },
      egress: [
        {
          ...{ action: 'Deny', to: [{ namespaces: {} }] },
          protocols: ports.map((number) => ({ tcp: { destinationPort: { number } } })),
        },
      ],
    },
  };
  for (const large of [everybody, administrator]) {
    const cluster = clusterOf([...basicObjects, ...pods, ...tenants, large]);
    assert.deepEqual(leftOut(fitting(cluster, {})), []);
    const compiled = fitting(cluster, { policy: 600 });
    assert.equal(compiled.fits, true);
    const left = leftOut(compiled);
    assert.ok(left.length > 20, `${left.length}`);
    assert.deepEqual(
      left.filter((name) => !name.startsWith('small-')),
      [],
    );
  }
});

test('a tenant with many selectors or many ports is left out, in one object or in many, and not those whom it makes take more', () => {
  const chunks = (count: number, parts: number): readonly (readonly number[])[] =>
    Array.from({ length: parts }, (_, part) =>
      Array.from({ length: count / parts }, (__, i) => (part * count) / parts + i),
    );
  const selecting = (space: string, count: number, parts: number): readonly Raw[] =>
    chunks(count, parts).map((numbers, part) =>
      cnp(`${space}/of-${space}-${part}`, {
        endpointSelector: {},
        egress: numbers.map((i) => ({
          toEndpoints: [
            { matchLabels: { 'k8s:io.kubernetes.pod.namespace': 'shop', app: `a${i}` } },
          ],
          toPorts: [{ ports: [{ port: '80', protocol: 'TCP' }] }],
        })),
      }),
    );
  const broad = (space: string, count: number, parts: number): readonly Raw[] =>
    chunks(count, parts).map((numbers, part) => ({
      ...{ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy' },
      metadata: { name: `of-${space}-${part}`, namespace: space },
      spec: {
        ...{ podSelector: {}, policyTypes: ['Egress'] },
        egress: [
          {
            to: [{ namespaceSelector: {} }],
            ports: numbers.map((i) => ({ protocol: 'TCP', port: 1000 + 2 * i })),
          },
        ],
      },
    }));
  const pods = Array.from({ length: 180 }, (_, i) =>
    pod(`shop/p${i}`, { app: `a${i}` }, 'two', `10.244.9.${i}`),
  );
  const own = ['evil', 'bank', 'mill'].map((space, i) =>
    pod(`${space}/x`, {}, 'one', `10.244.0.${70 + i}`),
  );
  for (const parts of [1, 6, 60]) {
    for (const objects of [
      [...selecting('bank', 60, 1), ...broad('evil', 240, parts)],
      [...selecting('bank', 60, 60), ...broad('evil', 240, parts)],
      [...broad('bank', 40, 1), ...broad('mill', 40, 1), ...selecting('evil', 180, parts)],
    ]) {
      const cluster = clusterOf([...basicObjects, ...pods, ...own, ...objects]);
      assert.deepEqual(leftOut(fitting(cluster, {})), []);
      const compiled = fitting(cluster, { policy: 2000 });
      const left = leftOut(compiled);
      assert.ok(compiled.fits && left.length > 0);
      assert.deepEqual(
        left.filter((name) => !name.startsWith('of-evil')),
        [],
        `${parts} objects of ${objects.length}`,
      );
    }
  }
});

test('each resource has its object found', () => {
  const names = Array.from({ length: 50 }, (_, i) => ({ matchName: `${'n'.repeat(50)}${i}.test` }));
  const range = [{ ports: [{ port: '1', endPort: 65_534, protocol: 'TCP' }] }];
  const big: Readonly<Record<keyof Budgets, Raw>> = {
    classes: { toCIDR: cidrs(100, 2) },
    policy: { toCIDR: cidrs(10, 2), toPorts: range },
    dns_servers: { toCIDR: ['100.1.1.0/25'], toPorts: dnsRule('*') },
    pattern_characters: { toFQDNs: names },
    snapshot: { toFQDNs: names },
  };
  const limits: Budgets = {
    ...{ classes: 60, policy: 150, dns_servers: 50, snapshot: 4000 },
    pattern_characters: 1000,
  };
  for (const [what, element] of Object.entries(big)) {
    const others = [
      egress('one', { toCIDR: cidrs(3, 4) }),
      egress('two', { toCIDR: ['192.0.2.53'], toPorts: dnsRule('*.test') }),
    ];
    const compiled = fitting(clusterOf([...basicObjects, ...others, egress('big', element)]), {
      [what]: limits[what as keyof Budgets],
    });
    assert.deepEqual(leftOut(compiled), ['big'], what);
    assert.equal(compiled.fits, true, what);
  }
});

test('a tenant whose names fill the matcher costs no other tenant a name', () => {
  const short = (from: number): readonly Raw[] =>
    Array.from({ length: 50 }, (_, i) => ({
      matchName: `${String.fromCharCode(97 + (i % 26))}${from + i}.x`,
    }));
  const long = [
    { matchPattern: 'api-*.payments.example.com' },
    { matchName: `${'n'.repeat(60)}.test` },
  ];
  const evil = [1000, 2000].map((from, i) =>
    cnp(`evil/of-evil-${i}`, { endpointSelector: {}, egress: [{ toFQDNs: short(from) }] }),
  );
  const objects = [...basicObjects, egress('own', { toFQDNs: long }), ...evil];
  const cluster = clusterOf([...objects, pod('evil/x', {}, 'one', '10.244.0.70')]);
  assert.deepEqual(leftOut(fitting(cluster, { pattern_characters: 700 })), []);
  const compiled = fitting(cluster, { pattern_characters: 350 });
  assert.equal(compiled.fits, true);
  assert.deepEqual(leftOut(compiled), ['of-evil-0']);
  const texts = compiled.members.patterns.map(({ text }) => text);
  for (const { matchPattern, matchName } of long as readonly Record<string, string>[]) {
    assert.ok(texts.includes(`${matchPattern ?? matchName}.`));
  }
});

test('what selects no pod of the node is not left out, nor makes others be left out', () => {
  const names = (from: string, count: number): readonly Raw[] =>
    Array.from({ length: count }, (_, i) => ({ matchName: `${from}${i}.${from}.x` }));
  const policyOf = (space: string, name: string, element: Raw): Raw =>
    cnp(`${space}/${name}`, { endpointSelector: {}, egress: [element] });
  const elsewhere = Array.from({ length: 12 }, (_, i) => [
    policyOf(`far-${i}`, 'names', { toFQDNs: names(`far${i}`, 100) }),
    policyOf(`far-${i}`, 'blocks', { toCIDR: cidrs(100, 2) }),
    policyOf(`far-${i}`, 'same-blocks', { toCIDR: cidrs(100, 1) }),
  ]).flat();
  const objects = [
    ...[...basicObjects, ...elsewhere],
    ...[pod('evil/x', {}, 'one', '10.244.0.70'), pod('bank/x', {}, 'one', '10.244.0.71')],
    policyOf('evil', 'evil-names', { toFQDNs: names('evil', 60) }),
    policyOf('evil', 'evil-blocks', { toCIDR: cidrs(60, 1) }),
    policyOf('bank', 'bank-names', { toFQDNs: names('bank', 5) }),
    policyOf('bank', 'bank-blocks', { toCIDR: cidrs(5, 3) }),
  ];
  const cluster = clusterOf(objects);
  const rows = [
    [{ pattern_characters: 200 }, 'evil-names'],
    [{ snapshot: 7_000 }, 'evil-names'],
    [{ classes: 60 }, 'evil-blocks'],
  ] as const;
  for (const [budgets, left] of rows) {
    const compiled = fitting(cluster, budgets);
    assert.equal(compiled.fits, true);
    assert.deepEqual(leftOut(compiled), [left], JSON.stringify(budgets));
  }
  const compiler = new FittingCompiler(nodeBudgets, 60);
  assert.deepEqual(leftOut(compiler.compile(cluster, options, StableIds.empty())), ['evil-blocks']);
});

test('an object whose exceptions tell too many addresses apart is left out before they are in memory', () => {
  const holes = (count: number): readonly Raw[] =>
    Array.from({ length: count }, (_, i) => ({ cidr: '0.0.0.0/0', except: [`100.1.${i}.0/24`] }));
  const crowd = (space: string, count: number): Raw =>
    cnp(`${space}/of-${space}`, { endpointSelector: {}, egress: [{ toCIDRSet: holes(count) }] });
  const plain = [egress('own', { toCIDR: cidrs(100, 2) }), pod('evil/x', {}, 'one', '10.244.0.70')];
  const objects = [...basicObjects, ...plain];
  const compiler = new FittingCompiler(nodeBudgets, 3000);
  const compile = (more: readonly Raw[]): Compiled => {
    const cluster = clusterOf([...objects, ...more]);
    const compiled = compiler.compile(cluster, options, StableIds.empty());
    const again = new FittingCompiler(nodeBudgets, 3000).compile(
      cluster,
      options,
      StableIds.empty(),
    );
    assert.deepEqual(compiled.diagnostics, again.diagnostics);
    assert.ok(compiled.fits);
    return compiled;
  };
  assert.deepEqual(leftOut(compile([crowd('evil', 10)])), []);
  const crowded = compile([crowd('evil', 80)]);
  assert.deepEqual(leftOut(crowded), ['of-evil']);
  assert.match(
    crowded.diagnostics[0]?.message ?? '',
    /more kinds of addresses apart than it has memory/,
  );
  assert.ok([...crowded.classes].length > 100, 'the other object is in force');
  const late = pod('shop/late', { app: 'late' }, 'two', '10.244.1.77');
  assert.deepEqual(leftOut(compile([crowd('evil', 80), late])), ['of-evil']);
  assert.deepEqual(leftOut(compile([crowd('evil', 10), late])), []);
});

test('addresses that a tenant tells apart cost the tenant, not a policy whose blocks they are in', () => {
  const blocks = Array.from({ length: 30 }, (_, i) => ({
    cidr: '100.0.0.0/8',
    except: [`100.99.${i}.0/24`],
  }));
  const many = Array.from({ length: 200 }, (_, i) => `100.1.0.${i}/32`);
  const objects = [
    ccnp('administrator', { endpointSelector: {}, egress: [{ toCIDRSet: blocks }] }),
    cnp('evil/of-evil', { endpointSelector: {}, egress: [{ toCIDR: many }] }),
    pod('evil/x', {}, 'one', '10.244.0.70'),
  ];
  const compiler = new FittingCompiler(nodeBudgets, 4000);
  const compiled = compiler.compile(
    clusterOf([...basicObjects, ...objects]),
    options,
    StableIds.empty(),
  );
  assert.deepEqual(leftOut(compiled), ['of-evil']);
});

test('an object whose selectors match everybody is left out when the node has no memory for them', () => {
  const not = (count: number): readonly Raw[] =>
    Array.from({ length: count }, (_, i) => ({
      matchExpressions: [
        { key: 'k8s:io.kubernetes.pod.namespace', operator: 'Exists' },
        { key: 'app', operator: 'NotIn', values: [`x${i}`] },
      ],
    }));
  const all = (space: string, count: number): Raw =>
    cnp(`${space}/of-${space}`, { endpointSelector: {}, egress: [{ toEndpoints: not(count) }] });
  const pods = Array.from({ length: 40 }, (_, i) =>
    pod(`shop/p${i}`, { app: `a${i}` }, 'two', `10.244.9.${i}`),
  );
  const own = ['evil', 'bank'].map((space, i) =>
    pod(`${space}/x`, {}, 'one', `10.244.0.${70 + i}`),
  );
  const objects = [...basicObjects, ...pods, ...own, all('bank', 20), all('evil', 200)];
  const compiler = new FittingCompiler(nodeBudgets, 4000);
  const compiled = compiler.compile(clusterOf(objects), options, StableIds.empty());
  assert.deepEqual(leftOut(compiled), ['of-evil']);
  assert.ok(compiled.fits && compiled.classTable.classesOf.size >= 20);
});

test('names of a policy for pods that others tell apart are left out before each pod has its own', () => {
  const numbers = Array.from({ length: 40 }, (_, i) => i);
  const pods = numbers.map((i) =>
    pod(`evil/p${i}`, { app: `a${i}` }, 'one', `10.244.0.${100 + i}`),
  );
  const apart = numbers.map((i) =>
    cnp(`evil/apart-${i}`, {
      endpointSelector: { matchLabels: { app: `a${i}` } },
      egress: [{ toEntities: ['host'] }],
    }),
  );
  const names = Array.from({ length: 7000 }, (_, i) => ({ matchName: `n${i}.test` }));
  const all = cnp('evil/of-evil', { endpointSelector: {}, egress: [{ toFQDNs: names }] });
  const own = egress('own', { toFQDNs: [{ matchName: 'own.test' }] });
  const cluster = clusterOf([...basicObjects, ...pods, ...apart, all, own]);
  const compiled = fitting(cluster, {});
  assert.ok(compiled.fits);
  assert.deepEqual(leftOut(compiled), ['of-evil']);
  assert.deepEqual(
    compiled.members.patterns.map(({ text }) => text),
    ['own.test.'],
  );
});

test('what no policy takes cannot be left out: the last one stays in force', () => {
  const compiled = fitting(clusterOf(basicObjects), { classes: 3 });
  assert.equal(compiled.fits, false);
  assert.match(
    compiled.diagnostics.at(-1)?.message ?? '',
    /the last policy that fits stays in force/,
  );
});

test('policies of before that have no room beside the new ones give way to them', () => {
  const before = compileObjects([...basicObjects, egress('p', { toCIDR: cidrs(100, 1) })]);
  const cluster = clusterOf([...basicObjects, egress('p', { toCIDR: cidrs(100, 2) })]);
  const compiled = compileFitting(cluster, { ...options, retain: [before] }, before.ids, {
    ...nodeBudgets,
    classes: 150,
  });
  assert.deepEqual([compiled.fits, compiled.isRetained, leftOut(compiled)], [true, false, []]);
});

test('an object that lists more DNS servers than one may is left out before it is compiled', () => {
  const servers = Array.from({ length: 40 }, (_, i) => `100.1.${i}.0/24`);
  const compiled = fitting(
    clusterOf([...basicObjects, egress('p', { toCIDR: servers, toPorts: dnsRule('*') })]),
    {},
  );
  assert.deepEqual(leftOut(compiled), ['p']);
  assert.match(compiled.diagnostics[0]?.message ?? '', /10240 DNS servers, at most 8192/);
});

test('entries are counted as they are made', () => {
  const compiled = compileObjects([
    ...basicObjects,
    egress('a', {
      toCIDR: cidrs(20, 1),
      toPorts: [{ ports: [{ port: '80', endPort: 95, protocol: 'ANY' }] }],
    }),
    egress('b', { toEntities: ['world'] }),
    cnp('shop/c', { endpointSelector: web, egressDeny: [{ toCIDR: ['100.1.0.0/16'] }] }),
  ]);
  for (const policy of compiled.policies.values()) {
    const made = new Map<number, number>();
    for (const { ruleId } of expandPolicy(policy, compiled.classTable)) {
      made.set(ruleId, (made.get(ruleId) ?? 0) + 1);
    }
    assert.deepEqual(countEntries(policy, compiled.classTable), made);
  }
  assert.deepEqual(new ResourceCounter().excessOf(compiled, nodeBudgets), []);
});
