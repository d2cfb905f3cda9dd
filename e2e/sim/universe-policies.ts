// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The policies of the world of universe.ts as the agent's own compiler makes them, each compiled once, and facts about them. */

import { memberPolicyOf, snapshotOf } from '@tandem/agent/policy/snapshot';
import { parsePrefix } from '@tandem/core/net/ip';
import { compile } from '@tandem/core/policy/compile/compile';
import { compileFitting } from '@tandem/core/policy/compile/fit';
import type {
  ClusterState,
  CompileOptions,
  NodeContext,
} from '@tandem/core/policy/model/cluster-state';
import type { Compiled, MemberPolicy } from '@tandem/core/policy/model/desired';
import { StableIds } from '@tandem/core/policy/model/stable-ids';
import { buildImage } from '@tandem/dns-proxy/policy/build-image';
import type { TablesImage } from '@tandem/dns-proxy/policy/tables-image';
import { decodePolicySnapshot, encodePolicySnapshot } from '@tandem/proto/snapshot';
import {
  address,
  matches,
  names,
  pods,
  type SimPod,
  servers,
  variantCount,
  variants,
} from './universe.ts';
import { clusters } from './universe-objects.ts';

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
  /** The part for members, as its snapshot has it. */
  readonly members: MemberPolicy;
}
const byKey = new Map<string, PolicyOfVariant>();
const byContent = new Map<string, PolicyOfVariant>();
const byPolicies = new WeakMap<object, PolicyOfVariant>();

/**
 * Compiles a cluster from nothing, with the product's compiler. Gives the same object for the same question: a compilation
 * takes as long as a whole schedule.
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
