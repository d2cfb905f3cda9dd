// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Compilations one after the other give what one from nothing gives, whatever changed in between: pods that come, go and
 * take each other's addresses, policies, namespaces, nodes, Services, facts of the node, objects that do not fit.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import {
  address,
  ccnp,
  clusterOf,
  cnp,
  dnsPorts,
  kubeDns,
  namespace,
  node,
  nodeObject,
  pod,
  type Raw,
  readyPod,
  redirectPolicy,
  service,
} from '../../../test/cluster-fixture.ts';
import { policiesFixture, policyObject } from '../../../test/random-policy.ts';
import { ChangeMap } from '../../change-map.ts';
import type {
  EndpointSlice,
  LocalRedirectPolicy,
  Namespace,
  Node,
  Pod,
  Service,
} from '../../k8s/objects.ts';
import { classesOnlyIn } from '../model/class-table.ts';
import type { ClusterState, NodeContext, PolicyState } from '../model/cluster-state.ts';
import type { Compiled, PolicyEntry } from '../model/desired.ts';
import { ClassOwner, classOwnerFlags } from '../model/kernel-numbers.ts';
import { StableIds } from '../model/stable-ids.ts';
import { expandClasses, expandPolicy } from './expand.ts';
import { FittingCompiler } from './fit.ts';
import { type Budgets, nodeBudgets } from './fit-costs.ts';

/* ---- the cluster, as a source keeps it ---- */

class LiveCluster {
  readonly namespaces = new ChangeMap<Namespace>();
  readonly nodes = new ChangeMap<Node>();
  readonly pods = new ChangeMap<Pod>();
  readonly services = new ChangeMap<Service>();
  readonly endpointSlices = new ChangeMap<EndpointSlice>();
  readonly redirectPolicies = new ChangeMap<LocalRedirectPolicy>();
  readonly policies = new ChangeMap<PolicyState>();
  readonly diagnostics = [];

  /** Puts the object under a name of its own; null: there is none any more. */
  set(kind: keyof ClusterState, key: string, raw: Raw | null): void {
    const map = this[kind] as ChangeMap<unknown>;
    if (raw === null) map.delete(key);
    else map.set(key, (clusterOf([raw])[kind] as Map<string, unknown>).values().next().value);
  }

  /** As it is now, in maps that do not change. */
  copy(): ClusterState {
    return {
      namespaces: new Map(this.namespaces),
      nodes: new Map(this.nodes),
      pods: new Map(this.pods),
      services: new Map(this.services),
      endpointSlices: new Map(this.endpointSlices),
      redirectPolicies: new Map(this.redirectPolicies),
      policies: new Map(this.policies),
      diagnostics: [],
    };
  }
}

/* ---- changes ---- */

type Change = (cluster: LiveCluster) => void;

const ips = ['10.244.0.2', '10.244.0.3', '10.244.1.2', '10.244.1.9', '192.168.0.2', '203.0.113.7'];
const ips6 = ['fd00:244::2', 'fd00:244:0:1::2'];

const podChange: fc.Arbitrary<Change> = fc
  .record({
    number: fc.nat(5),
    ns: fc.constantFrom('a', 'b', 'kube-system'),
    app: fc.constantFrom('x', 'y', 'z', 'node-local-dns'),
    isReady: fc.boolean(),
    addresses: fc.tuple(fc.constantFrom(...ips), fc.option(fc.constantFrom(...ips6))),
    nodeName: fc.constantFrom('one', 'two'),
    phase: fc.constantFrom('Running', 'Running', 'Running', 'Succeeded'),
    isDeleting: fc.boolean(),
    created: fc.constantFrom('2026-01-01T00:00:00Z', '2026-01-02T00:00:00Z'),
    port: fc.option(fc.constantFrom(80, 8080)),
    isThere: fc.integer({ min: 0, max: 3 }),
  })
  .map((what) => (cluster: LiveCluster): void => {
    const { number, ns, app, addresses, nodeName, phase, isDeleting, created, port } = what;
    const key = `${ns}/p${number}`;
    if (what.isThere === 0) return cluster.set('pods', key, null);
    const list = addresses.filter((each) => each !== null);
    const raw = pod(key, { app, 'k8s-app': app === 'z' ? 'kube-dns' : app }, nodeName, ...list);
    const ports = port === null ? [] : [{ name: 'http', containerPort: port, protocol: 'TCP' }];
    cluster.set('pods', key, {
      ...raw,
      metadata: {
        ...(raw['metadata'] as Raw),
        creationTimestamp: created,
        ...(isDeleting ? { deletionTimestamp: created } : {}),
      },
      spec: { nodeName, containers: [{ name: 'c', ports }] },
      status: { ...(readyPod(raw, what.isReady)['status'] as Raw), phase },
    });
  });

const blocks = ['0.0.0.0/0', '10.0.0.0/8', '10.244.1.0/24', '203.0.113.0/24', '203.0.113.7/32'];
const networkPolicy = fc
  .record({
    ns: fc.constantFrom('a', 'b'),
    app: fc.constantFrom(null, 'x', 'y'),
    block: fc.constantFrom(...blocks),
    team: fc.option(fc.constantFrom('one', 'two')),
    port: fc.constantFrom('http', 80, 53),
  })
  .map(
    ({ ns, app, block, team, port }): Raw => ({
      apiVersion: 'networking.k8s.io/v1',
      kind: 'NetworkPolicy',
      metadata: { namespace: ns, name: 'n' },
      spec: {
        podSelector: app === null ? {} : { matchLabels: { app } },
        policyTypes: ['Ingress', 'Egress'],
        ingress: [{ from: [{ ipBlock: { cidr: block } }], ports: [{ port, protocol: 'TCP' }] }],
        egress: [
          {
            to: [
              team === null
                ? { podSelector: {} }
                : { namespaceSelector: { matchLabels: { team } } },
            ],
            ports: [{ port, protocol: 'TCP' }],
          },
        ],
      },
    }),
  );

const dnsPolicy = fc
  .record({
    ns: fc.constantFrom('', 'a'),
    peers: fc.constantFrom<Raw>(
      { toEndpoints: [kubeDns] },
      { toCIDR: ['10.244.1.2/32'] },
      { toEntities: ['host'] },
      { toEndpoints: [{ matchLabels: { app: 'nobody' } }] },
      { toEndpoints: [{ matchLabels: { app: 'node-local-dns' } }] },
      {},
    ),
    port: fc.constantFrom('53', '1053'),
    names: fc.subarray(['a.example', 'b.example'], { minLength: 1 }),
  })
  .map(({ ns, peers, port, names }): Raw => {
    const list = names.map((matchName) => ({ matchName }));
    const toPorts = [{ ports: [{ port, protocol: 'UDP' }], rules: { dns: list } }];
    const spec = { endpointSelector: {}, egress: [{ ...peers, toPorts }, { toFQDNs: list }] };
    return ns === '' ? ccnp('dns', spec) : cnp(`${ns}/dns`, spec);
  });

const policyChange: fc.Arbitrary<Change> = fc
  .record({
    number: fc.nat(4),
    raw: fc.oneof(
      policiesFixture.map(([first], i = 0) => policyObject(first as never, i)),
      networkPolicy,
      dnsPolicy,
    ),
    isThere: fc.integer({ min: 0, max: 3 }),
  })
  .map(({ number, raw, isThere }) => (cluster: LiveCluster): void => {
    const named = { ...raw, metadata: { ...(raw['metadata'] as Raw), name: `p${number}` } };
    cluster.set('policies', `p${number}`, isThere === 0 ? null : named);
  });

const otherChange: fc.Arbitrary<Change> = fc.oneof(
  fc
    .tuple(fc.constantFrom('a', 'b'), fc.constantFrom('one', 'two', null))
    .map(([name, team]) => (cluster: LiveCluster): void => {
      cluster.set('namespaces', `/${name}`, team === null ? null : namespace(name, { team }));
    }),
  fc
    .tuple(fc.constantFrom('192.168.0.2', '10.244.1.2'), fc.boolean())
    .map(([ip, isThere]) => (cluster: LiveCluster): void => {
      cluster.set('nodes', '/two', isThere ? nodeObject('two', ip, '10.244.1.0/24') : null);
    }),
  fc
    .tuple(
      fc.constantFrom('kube-system/kube-dns', 'default/kubernetes', 'a/web'),
      fc.constantFrom('10.96.0.10', '10.244.1.9'),
      fc.subarray([...ips]),
      fc.constantFrom('gone', 'there', 'other backends', 'other backends'),
    )
    .map(([name, ip, backends, what]) => (cluster: LiveCluster): void => {
      const [made, slice] = service(name, ip, dnsPorts, ...backends) as [Raw, Raw];
      const isThere = what !== 'gone';
      if (what !== 'other backends') cluster.set('services', name, isThere ? made : null);
      cluster.set('endpointSlices', name, isThere ? slice : null);
    }),
);

const redirectChange: fc.Arbitrary<Change> = fc
  .tuple(
    fc.constantFrom('kube-system', 'a'),
    fc.constantFrom('l', 'm'),
    fc.constantFrom<(ns: string) => Raw | null>(
      () => null,
      () => ({
        addressMatcher: { ip: '203.0.113.7', toPorts: [{ port: '53', protocol: 'UDP' }] },
      }),
      (ns) => ({ serviceMatcher: { serviceName: 'kube-dns', namespace: ns } }),
      (ns) => ({ serviceMatcher: { serviceName: 'web', namespace: ns } }),
    ),
  )
  .map(([ns, name, frontend]) => (cluster: LiveCluster): void => {
    const made = frontend(ns);
    const key = `${ns}/${name}`;
    cluster.set('redirectPolicies', key, made === null ? null : redirectPolicy(key, made));
  });

interface Step {
  readonly changes: readonly Change[];
  readonly facts: Partial<NodeContext>;
  /** Whether what was compiled before is in force. */
  readonly isApplied: boolean;
}

const step: fc.Arbitrary<Step> = fc.record({
  changes: fc.array(
    fc.oneof(podChange, podChange, policyChange, otherChange, otherChange, redirectChange),
    {
      minLength: 1,
      maxLength: 2,
    },
  ),
  facts: fc.constantFrom<Partial<NodeContext>>(
    ...[{}, {}, {}, { nodeLocalDns: [address('169.254.20.10')] }],
    { localAddresses: [address('10.244.1.9')], linkLocalAddresses: [address('fe80::1')] },
  ),
  isApplied: fc.boolean(),
});

/** A pod of this node with DNS rules, and the cluster's DNS on the other node. */
const start: readonly Change[] = [
  (cluster) =>
    cluster.set(
      'nodes',
      '/one',
      nodeObject('one', '192.168.0.1', '10.244.0.0/24', 'fd00:244::/64'),
    ),
  (cluster) => cluster.set('nodes', '/two', nodeObject('two', '192.168.0.2', '10.244.1.0/24')),
  ...['a', 'b', 'kube-system'].map(
    (name): Change =>
      (cluster) =>
        cluster.set('namespaces', `/${name}`, namespace(name)),
  ),
  (cluster) => cluster.set('pods', 'a/p0', pod('a/p0', { app: 'x' }, 'one', '10.244.0.2')),
  (cluster) =>
    cluster.set(
      'pods',
      'kube-system/p1',
      pod('kube-system/p1', { app: 'z', 'k8s-app': 'kube-dns' }, 'two', '10.244.1.2'),
    ),
  (cluster) => {
    const dns = service('kube-system/kube-dns', '10.96.0.10', dnsPorts, '10.244.1.2');
    cluster.set('services', 'kube-system/kube-dns', dns[0] as Raw);
    cluster.set('endpointSlices', 'kube-system/kube-dns', dns[1] as Raw);
  },
  (cluster) => {
    const rules = { dns: [{ matchName: 'a.example' }] };
    const toPorts = [{ ports: [{ port: '53', protocol: 'UDP' }], rules }];
    const egress = [{ toEndpoints: [kubeDns], toPorts }, { toFQDNs: [{ matchName: 'a.example' }] }];
    cluster.set('policies', 'p0', cnp('a/p0', { endpointSelector: {}, egress }));
  },
];

/* ---- the property ---- */

/** All of a compilation but the table of ids, which names no more than the rest does. */
function parts(compiled: Compiled): unknown {
  const rules = compiled.rules.all();
  return { ...compiled, ids: null, rules, classes: [...compiled.classes] };
}

const keyOf = ({ policyId, peer, direction, protocol, port, prefixLength }: PolicyEntry): string =>
  [policyId, peer, direction, protocol, port, prefixLength].join(' ');

/** Entries of `policy`, kept by what changes alone. */
class PolicyMap {
  readonly entries = new Map<string, PolicyEntry>();
  #last: Compiled | null = null;

  change(compiled: Compiled): void {
    const before = this.#last?.classTable ?? { classesOf: new Map(), selectorsOf: new Map() };
    const added = classesOnlyIn(compiled.classTable, before);
    const gone = classesOnlyIn(before, compiled.classTable);
    const former = this.#last?.policies ?? new Map();
    for (const policy of former.values()) {
      const isKept = compiled.policies.has(policy.id);
      const removed = isKept ? expandClasses(policy, gone) : expandPolicy(policy, before);
      for (const entry of removed) this.entries.delete(keyOf(entry));
    }
    for (const policy of compiled.policies.values()) {
      const more = former.has(policy.id)
        ? expandClasses(policy, added)
        : expandPolicy(policy, compiled.classTable);
      for (const entry of more) this.entries.set(keyOf(entry), entry);
    }
    this.#last = compiled;
  }
}

function wholePolicyMap({ policies, classTable }: Compiled): Map<string, PolicyEntry> {
  const entries = [...policies.values()].flatMap((policy) => expandPolicy(policy, classTable));
  return new Map(entries.map((entry) => [keyOf(entry), entry]));
}

const budgets: fc.Arbitrary<Budgets> = fc.constantFrom(
  nodeBudgets,
  { ...nodeBudgets, policy: 12 },
  { ...nodeBudgets, dns_servers: 1 },
);

const classOwners = new Set<number>(Object.values(ClassOwner));

test('compiled from what changed is as compiled from nothing', () => {
  fc.assert(
    fc.property(
      fc.array(step, { minLength: 1, maxLength: 12 }),
      budgets,
      fc.boolean(),
      (steps, budget, isLive) => {
        const cluster = new LiveCluster();
        for (const change of start) change(cluster);
        const compiler = new FittingCompiler(budget);
        const policyMap = new PolicyMap();
        let ids = StableIds.empty();
        let applied: Compiled | null = null;
        for (const [index, { changes, facts, isApplied }] of steps.entries()) {
          for (const change of changes) change(cluster);
          const options = {
            node: { ...node, ...facts },
            revision: index + 1,
            ...(applied === null ? {} : { retain: [applied] }),
          };
          const state = isLive ? { ...cluster, diagnostics: [] } : cluster.copy();
          const compiled: Compiled = compiler.compile(state as ClusterState, options, ids);
          const fresh = new FittingCompiler(budget).compile(cluster.copy(), options, ids);
          assert.deepEqual(parts(compiled), parts(fresh));
          for (const { flags } of compiled.classes) {
            assert.ok(classOwners.has(flags & classOwnerFlags), `${flags} has no meaning in abi.h`);
          }
          policyMap.change(compiled);
          assert.deepEqual(policyMap.entries, wholePolicyMap(fresh));
          if (!isApplied) continue;
          ids = compiled.ids;
          applied = compiled;
        }
      },
    ),
    { seed: 20261129, numRuns: 150 },
  );
});

test('an address outside of the cluster in a range of pods has the CIDR peers of later', () => {
  const cluster = new LiveCluster();
  for (const change of start) change(cluster);
  const [, slice] = service('default/kubernetes', '10.96.0.1', [], '10.244.1.9') as [Raw, Raw];
  cluster.set('endpointSlices', 'default/kubernetes', slice);
  const compiler = new FittingCompiler();
  compiler.compile(cluster, { node, revision: 1 }, StableIds.empty());
  const egress = [{ toCIDR: ['10.0.0.0/8'] }];
  cluster.set('policies', 'p1', cnp('a/p1', { endpointSelector: {}, egress }));
  const options = { node, revision: 2 };
  const compiled = compiler.compile(cluster, options, StableIds.empty());
  const fresh = new FittingCompiler().compile(cluster.copy(), options, StableIds.empty());
  assert.deepEqual(parts(compiled), parts(fresh));
});
