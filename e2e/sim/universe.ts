// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The small world that schedules play in: pods, names, the addresses they really have, and some policies
 * over them, compiled once by the agent's own compiler.
 */

import { ClusterBuilder } from '@tandem/agent/policy/cluster-builder';
import { memberPolicyOf, snapshotOf } from '@tandem/agent/policy/snapshot';
import { nameFromText } from '@tandem/core/dns/name';
import { parseAddress, parsePrefix } from '@tandem/core/net/ip';
import type { ClusterState, CompileOptions, NodeContext } from '@tandem/core/policy/cluster-state';
import { compile } from '@tandem/core/policy/compile';
import type { Compiled, MemberPolicy } from '@tandem/core/policy/desired';
import { compileFitting } from '@tandem/core/policy/fit';
import { StableIds } from '@tandem/core/policy/stable-ids';
import { buildImage } from '@tandem/dns-proxy/policy/build-image';
import type { TablesImage } from '@tandem/dns-proxy/policy/tables-image';
import { decodePolicySnapshot, encodePolicySnapshot } from '@tandem/proto/snapshot';

export const address = (text: string): Uint8Array => {
  const bytes = parseAddress(text);
  if (bytes === null) throw new TypeError(text);
  return bytes;
};
/** As the query path has them: four words in memory order. */
const wordsOf = (bytes: Uint8Array): Uint32Array => new Uint32Array(bytes.slice().buffer);

/** The cluster's resolver, whose answers count for everybody, and one whose answers do not. */
export const servers = ['10.96.0.10', '9.9.9.9'] as const;
export const serverWords: readonly Uint32Array[] = servers.map((text) => wordsOf(address(text)));

export interface SimPod {
  readonly name: string;
  readonly namespace: string;
  readonly ip: string;
  readonly words: Uint32Array;
}
export const pods: readonly SimPod[] = [
  ['web', 'shop', '10.1.0.10'],
  ['api', 'shop', '10.1.0.11'],
  ['job', 'lab', '10.1.0.12'],
].map(([name = '', namespace = '', ip = '']) => ({
  name,
  namespace,
  ip,
  words: wordsOf(address(ip)),
}));

export interface SimName {
  readonly text: string;
  readonly wire: Uint8Array;
  /** A query for its address, id 0. */
  readonly query: Uint8Array;
  /** All addresses that it ever has, IPv4, as the fourth word. */
  readonly hosts: readonly number[];
}

const hostWord = (host: number): number =>
  new Uint32Array(Uint8Array.of(203, 0, 113, host).buffer)[0]!;
/** Of several names. */
const sharedHost = 200;
/** 10.96.0.99: an address of the cluster, which one name points to. */
export const clusterWord: number = new Uint32Array(Uint8Array.of(10, 96, 0, 99).buffer)[0]!;

export const names: readonly SimName[] = [
  ...['a.one.test', 'b.one.test', 'c.one.test', 'a.two.test', 'b.two.test', 'a.three.test'],
  ...['b.three.test', 'evil.test', 'rebind.one.test'],
].map((text, index) => {
  const wire = nameFromText(text) as Uint8Array;
  const query = new Uint8Array(12 + wire.length + 4);
  query.set([0, 0, 1, 0, 0, 1]);
  query.set(wire, 12);
  query.set([0, 1, 0, 1], 12 + wire.length);
  const hosts = [hostWord(10 + index * 2), hostWord(11 + index * 2), hostWord(sharedHost)];
  if (text.startsWith('rebind')) hosts.push(clusterWord);
  return { text, wire, query, hosts };
});

/** Per pod: names that may be asked, by server, and names whose addresses may be connected to. */
interface PodRules {
  readonly asks: readonly (readonly string[])[];
  readonly connects: readonly string[];
}
const one = '*.one.test';
const two = '*.two.test';
const three = '*.three.test';
const none = [[], []];
const variants: readonly (readonly PodRules[])[] = [
  [
    { asks: [[one], []], connects: [one] },
    { asks: [[one, two], []], connects: [two] },
    { asks: [[one], [three]], connects: [one, three] },
  ],
  [
    { asks: [[two], []], connects: [two] },
    { asks: [[one, two], []], connects: [one, 'a.two.test'] },
    { asks: [[], [three, two]], connects: [three, two] },
  ],
  [
    { asks: [['a.one.test', two], []], connects: ['a.one.test', two] },
    { asks: none, connects: [] },
    { asks: [[one], [three]], connects: [one, 'a.three.test'] },
  ],
  [
    { asks: [[one, two, three], []], connects: [one, two, three] },
    { asks: [['b.one.test'], []], connects: [one] },
    { asks: [[one, three], []], connects: [three] },
  ],
];
export const variantCount: number = variants.length;

const matches = (pattern: string, name: string): boolean =>
  pattern.startsWith('*.')
    ? name.endsWith(pattern.slice(1)) && !name.slice(0, 1 - pattern.length).includes('.')
    : pattern === name;

const allowedTable: readonly Uint8Array[] = variants.map((rules) =>
  Uint8Array.from(
    pods.flatMap((_, pod) =>
      servers.flatMap((_s, server) =>
        names.map(({ text }) =>
          (rules[pod] as PodRules).asks[server]?.some((pattern) => matches(pattern, text)) === true
            ? 1
            : 0,
        ),
      ),
    ),
  ),
);
/** Whether a policy lets a pod ask a server for a name; worked out without the product's matcher. */
export function isAllowed(variant: number, pod: number, server: number, name: number): boolean {
  const table = allowedTable[variant] as Uint8Array;
  return table[(pod * servers.length + server) * names.length + name] === 1;
}
/** A server that the policy has no rule for is not steered to us at all. */
export function isSteered(variant: number, pod: number, server: number): boolean {
  const rules = (variants[variant] as readonly PodRules[])[pod] as PodRules;
  return (rules.asks[server] as readonly string[]).length > 0;
}

const clusterDns = {
  matchLabels: { 'k8s:io.kubernetes.pod.namespace': 'kube-system', 'k8s-app': 'kube-dns' },
};
const dnsPorts = ['UDP', 'TCP'].map((protocol) => ({
  name: `dns-${protocol.toLowerCase()}`,
  port: 53,
  protocol,
}));
/** The pod behind the Service that pods ask: another one under half of the policies. */
export const backendOf = (variant: number): string => `10.1.1.${53 + (variant & 1)}`;
/** Under one policy a pod was replaced by another one with its name and its address. */
const uidOf = (pod: string, variant: number): string =>
  `uid-${pod}${pod === 'job' && variant === 2 ? '-again' : ''}`;
/** The Service that pods ask, and the pod behind it, on another node. */
const clusterDnsObjects = (variant: number): readonly object[] => [
  {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: 'dns',
      namespace: 'kube-system',
      uid: 'uid-dns',
      labels: { 'k8s-app': 'kube-dns' },
    },
    spec: { nodeName: 'two' },
    status: { phase: 'Running', podIPs: [{ ip: backendOf(variant) }] },
  },
  {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'kube-dns', namespace: 'kube-system' },
    spec: { clusterIP: servers[0], clusterIPs: [servers[0]], ports: dnsPorts },
  },
  {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: {
      name: 'kube-dns-4',
      namespace: 'kube-system',
      labels: { 'kubernetes.io/service-name': 'kube-dns' },
    },
    addressType: 'IPv4',
    endpoints: [{ addresses: [backendOf(variant)] }],
    ports: dnsPorts,
  },
];

function policyObject(pod: SimPod, { asks, connects }: PodRules): object {
  const dns = asks.flatMap((patterns, server) =>
    patterns.length === 0
      ? []
      : [
          {
            ...(server === 0
              ? { toEndpoints: [clusterDns] }
              : { toCIDR: [`${servers[server]}/32`] }),
            toPorts: [
              {
                ports: [{ port: '53', protocol: 'ANY' }],
                rules: { dns: patterns.map((matchPattern) => ({ matchPattern })) },
              },
            ],
          },
        ],
  );
  const fqdns =
    connects.length === 0 ? [] : [{ toFQDNs: connects.map((matchPattern) => ({ matchPattern })) }];
  const egress = [...dns, ...fqdns];
  return {
    apiVersion: 'cilium.io/v2',
    kind: 'CiliumNetworkPolicy',
    metadata: { name: pod.name, namespace: pod.namespace },
    spec: {
      endpointSelector: { matchLabels: { app: pod.name } },
      egress: egress.length > 0 ? egress : [{}],
    },
  };
}

function clusterOf(rules: readonly PodRules[], variant: number): ClusterState {
  const objects = [
    ...['shop', 'lab', 'kube-system'].map((name) => ({
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name, labels: {} },
    })),
    {
      apiVersion: 'v1',
      kind: 'Node',
      metadata: { name: 'one' },
      spec: { podCIDRs: ['10.1.0.0/24'] },
      status: { addresses: [{ type: 'InternalIP', address: '192.168.0.1' }] },
    },
    ...pods.map(({ name, namespace, ip }) => ({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name, namespace, uid: uidOf(name, variant), labels: { app: name } },
      spec: { nodeName: 'one' },
      status: { phase: 'Running', podIPs: [{ ip }] },
    })),
    ...clusterDnsObjects(variant),
    ...pods.map((pod, index) => policyObject(pod, rules[index] as PodRules)),
  ];
  const state = new ClusterBuilder().build({
    objects: objects.map((raw, document) => ({
      file: 'sim',
      document,
      line: 1,
      raw,
      damage: null,
    })),
    problems: [],
  });
  const problem =
    state.diagnostics[0] ?? [...state.policies.values()].find(({ invalid }) => invalid !== null);
  if (problem !== undefined) throw new TypeError(JSON.stringify(problem));
  return state;
}

/** The id of a pod's namespace; the compiler's, because the kernel's requests carry it. */
const namespaceOf = (pod: number): number =>
  alone[0]?.endpoints.find((endpoint) => endpoint.pod.name === pods[pod]?.name)?.namespaceId ?? 0;

/** The namespace of a pod if a policy there names the selector under this variant, else 0. */
export function wantedBy(variant: number, pod: number, selector: number): number {
  const { namespace } = pods[pod] as SimPod;
  const text = selectorFacts.get(selector)?.text;
  const isNamed = pods.some(
    (other, index) =>
      other.namespace === namespace &&
      variants[variant]?.[index]?.connects.some((pattern) => pattern === text) === true,
  );
  return isNamed ? namespaceOf(pod) : 0;
}

const prefix = parsePrefix('10.96.0.0/16');
if (prefix === null) throw new TypeError('prefix');
export const node: NodeContext = {
  nodeName: 'one',
  localAddresses: [address('192.168.0.1')],
  clusterCidrs: [],
  serviceCidrs: [prefix],
  clusterResolvers: [address(servers[0])],
  nodeLocalDns: [],
  clusterName: 'default',
};

export const clusters: readonly ClusterState[] = variants.map(clusterOf);

/** All variants have been compiled once: what they need of ids is there. */
export const stableIds: StableIds = clusters.reduce(
  (ids, cluster) => compile(cluster, { node, revision: 1 }, ids).ids,
  StableIds.empty(),
);

export interface PolicyOfVariant {
  readonly variant: number;
  /** The same for equal compilations. */
  readonly id: number;
  readonly compiled: Compiled;
  readonly image: TablesImage;
  /** What members have of it, as its snapshot says. */
  readonly members: MemberPolicy;
}
const byKey = new Map<string, PolicyOfVariant>();
const byContent = new Map<string, PolicyOfVariant>();
const byPolicies = new WeakMap<object, PolicyOfVariant>();

/**
 * What the product's compiler makes of a cluster from nothing, the same object for the same question: a compilation takes
 * as long as a whole schedule.
 */
export function compileVariant(
  cluster: ClusterState,
  { retain = [], served }: Pick<CompileOptions, 'retain' | 'served'>,
): PolicyOfVariant {
  const variant = clusters.indexOf(cluster);
  const former = served === undefined ? '' : ofPolicies(served.policies).id;
  const key = [variant, former, ...retain.map((each) => compilationOf(each).id)].join();
  let policy = byKey.get(key);
  if (policy === undefined) {
    const options: CompileOptions = {
      ...{ node, revision: 1, retain },
      ...(served === undefined ? {} : { served }),
    };
    policy = shared(variant, compileFitting(cluster, options, stableIds));
    byKey.set(key, policy);
  }
  return policy;
}

/** Where a compilation came from, whatever its revision. */
export function compilationOf({ policies }: Pick<Compiled, 'policies'>): PolicyOfVariant {
  return ofPolicies(policies);
}

function ofPolicies(policies: object): PolicyOfVariant {
  const policy = byPolicies.get(policies);
  if (policy === undefined) throw new TypeError('a policy that was not compiled here');
  return policy;
}

/** Equal compilations are one: what may follow each other is bounded. */
function shared(variant: number, compiled: Compiled): PolicyOfVariant {
  const content = JSON.stringify([variant, compiled], plain);
  let policy = byContent.get(content);
  if (policy !== undefined) return policy;
  const encoded = encodePolicySnapshot(snapshotOf(compiled.members, 'one', 0));
  if (!encoded.ok) throw new TypeError(encoded.error);
  const decoded = decodePolicySnapshot(encoded.value);
  if (!decoded.ok) throw new TypeError(decoded.error);
  policy = {
    ...{ variant, compiled, id: byContent.size },
    image: buildImage(decoded.value).image,
    members: memberPolicyOf(decoded.value),
  };
  byContent.set(content, policy);
  byPolicies.set(compiled.policies, policy);
  byPolicies.set(policy.members.policies, policy);
  return policy;
}

function plain(name: string, value: unknown): unknown {
  if (name === 'ids' || name === 'classTable') return undefined;
  if (value instanceof Map) return [...value];
  if (value instanceof Set) return [...value];
  return typeof value === 'bigint' ? String(value) : value;
}

/** Without anything of before. */
const alone: readonly Compiled[] = clusters.map((cluster) => compileVariant(cluster, {}).compiled);

/** Variant `number` on a node that has known no other. */
export const policyAlone = (variant: number): PolicyOfVariant =>
  compilationOf(alone[variant] as Compiled);

export const namespaceIds: ReadonlySet<number> = new Set(pods.map((_, pod) => namespaceOf(pod)));

/** Variants by policy id and pod: content decides the id, so several may share one. */
export const variantsOfId: ReadonlyMap<number, readonly number[]> = (() => {
  const byId = new Map<number, number[]>();
  alone.forEach((compiled, variant) => {
    for (const { policyId } of compiled.endpoints)
      byId.set(policyId, [...(byId.get(policyId) ?? []), variant]);
  });
  return byId;
})();

/**
 * Policies whose place a policy may take for a pod, worked out without the product's compiler: it asks the
 * resolver that is not the cluster's for all that they ask it for. What they heard from it counts for it too.
 */
export const followedBy: ReadonlyMap<number, ReadonlySet<number>> = (() => {
  const followed = new Map<number, Set<number>>();
  const asks = (variant: number, pod: number): readonly string[] =>
    variants[variant]?.[pod]?.asks[1] ?? [];
  const idOf = (variant: number, pod: number): number =>
    alone[variant]?.endpoints.find((endpoint) => endpoint.pod.name === pods[pod]?.name)?.policyId ??
    0;
  for (let pod = 0; pod < pods.length; pod++) {
    for (let from = 0; from < variantCount; from++) {
      for (let to = 0; to < variantCount; to++) {
        if (!asks(from, pod).every((pattern) => asks(to, pod).includes(pattern))) continue;
        const former = followed.get(idOf(to, pod)) ?? new Set();
        followed.set(idOf(to, pod), former.add(idOf(from, pod)));
      }
    }
  }
  return followed;
})();

/** Selector id -> places of the names that its pattern matches, and the policy whose answers alone count (0 all). */
export const selectorFacts: ReadonlyMap<
  number,
  { readonly text: string; readonly names: ReadonlySet<number>; readonly policyId: number }
> = new Map(
  alone.flatMap(({ members }) =>
    members.selectors.map(({ id, patternIndex, policyId }) => {
      const text = (members.patterns[patternIndex]?.text ?? '').replace(/\.$/, '');
      const matched = names.flatMap((name, index) => (matches(text, name.text) ? [index] : []));
      return [id, { text, names: new Set(matched), policyId }] as const;
    }),
  ),
);
