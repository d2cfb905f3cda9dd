// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Cluster state -> desired state of one node. The result depends on what it is given alone: the same input gives the
 * same output in whatever order the maps iterate, and the ids of what did not change do not change. What it keeps from
 * one compilation to the next only saves work: each stage is done again where something that it reads has changed, and
 * a part of the result that is as before is the same object as before.
 *
 *   specs in force ─ per pod ─► drafts ─► classes (which selectors match whom)
 *                                  └────► DNS servers (which addresses those rules mean)
 *                                           └─► policies with ids ─► endpoints, members
 */
import { endpointsMax } from '../limits.ts';
import { compareAddresses } from '../net/ip.ts';
import type { LocalPod } from './address-owners.ts';
import { type BuiltPolicies, buildPolicies, peersOf } from './build-policies.ts';
import { AddressClasses } from './classes.ts';
import type { ClusterState, CompileOptions } from './cluster-state.ts';
import {
  crowdedDiagnostics,
  fqdnDiagnostics,
  holdDiagnostics,
  nodeDiagnostics,
  sortDiagnostics,
} from './compile-diagnostics.ts';
import type {
  Compiled,
  CompiledPolicy,
  Diagnostic,
  EndpointDesired,
  MemberEndpoint,
  MemberPolicy,
} from './desired.ts';
import { type DnsPlan, DnsPlanner } from './dns-planner.ts';
import { IdSession } from './id-session.ts';
import { EndpointFlag } from './kernel-numbers.ts';
import { MemberPolicyBuilder } from './member-policy.ts';
import { OwnerTable } from './owner-table.ts';
import type { Peer } from './peer.ts';
import type { PolicyDraft } from './policy-set.ts';
import { sameAs, samePartsAs } from './same-as.ts';
import { SpecTable } from './spec-table.ts';
import type { StableIds } from './stable-ids.ts';
import type { Succession } from './succession.ts';

interface Built {
  readonly planned: DnsPlan['planned'];
  readonly policies: BuiltPolicies;
  readonly byId: ReadonlyMap<number, CompiledPolicy>;
  readonly members: MemberPolicyBuilder;
}

interface Members {
  /** What they were made of. */
  readonly from: readonly unknown[];
  readonly succession: Succession;
}

export class PolicyCompiler {
  #owners = new OwnerTable();
  #specs = new SpecTable();
  #classes = new AddressClasses();
  #dns = new DnsPlanner();
  readonly #ids = new IdSession();
  #peers: ReadonlyMap<string, Peer> = new Map();
  #peersFrom: readonly unknown[] = [];
  #built: Built | null = null;
  #members: Members | null = null;
  #endpoints: readonly EndpointDesired[] = [];
  #diagnostics: readonly Diagnostic[] = [];

  /** Compiles. `previousIds` is left as it is; `Compiled.ids` is its successor. @throws whatever a bug makes it throw */
  compile(cluster: ClusterState, options: CompileOptions, previousIds: StableIds): Compiled {
    try {
      return this.#compile(cluster, options, previousIds);
    } catch (error) {
      // Nothing is known of what was done half.
      this.reset();
      throw error;
    }
  }

  /** Forgets everything: the next compilation is made from nothing. */
  reset(): void {
    this.#owners = new OwnerTable();
    this.#specs = new SpecTable();
    this.#classes = new AddressClasses();
    this.#dns = new DnsPlanner();
    this.#ids.reset();
    this.#peersFrom = [];
    this.#built = null;
    this.#members = null;
  }

  #compile(cluster: ClusterState, options: CompileOptions, previousIds: StableIds): Compiled {
    const { node } = options;
    this.#ids.begin(previousIds);
    const asked = this.#specs.update(cluster, this.#owners.portNumbers(cluster.pods));
    this.#owners.update(cluster, node, asked);
    const { localPods, crowded } = withRoom(this.#owners.localPods());
    this.#owners.setCrowded(crowded.flatMap(({ addresses }) => addresses));
    const { draftOf, drafts } = this.#specs.draft(localPods);

    const peers = this.#collectPeers(drafts, options);
    this.#classes.update(this.#owners, peers, this.#ids);
    const plan = this.#dns.plan(cluster, node, this.#classes, peers, drafts);
    const built = this.#build(plan.planned);
    const { byDraft } = built.policies;
    const policyOf = (local: LocalPod): CompiledPolicy | null =>
      this.#isHeld(local, cluster) ? null : (byDraft.get(draftOf(local)) ?? null);
    const endpoints = makeEndpoints(localPods, policyOf, this.#classes, this.#ids);
    this.#endpoints = sameAs(this.#endpoints, endpoints);
    const { members, predecessorsForgotten } = this.#makeMembers(options, plan, built);
    const diagnostics = sortDiagnostics([
      ...cluster.diagnostics,
      ...this.#specs.diagnostics(),
      ...this.#owners.diagnostics(),
      ...plan.diagnostics,
      ...fqdnDiagnostics(drafts),
      ...holdDiagnostics(this.#endpoints, cluster),
      ...nodeDiagnostics(cluster, node),
      ...crowdedDiagnostics(crowded.map(({ pod }) => pod)),
    ]);
    this.#diagnostics = sameAs(this.#diagnostics, diagnostics);
    return {
      endpoints: this.#endpoints,
      classes: this.#classes.entries,
      classTable: this.#classes.table,
      policies: built.byId,
      dnsServers: built.policies.dnsServers,
      members,
      predecessorsForgotten,
      rules: built.policies.rules,
      diagnostics: this.#diagnostics,
      fits: true,
      isRetained: true,
      ids: this.#ids.end(),
    };
  }

  /** The peers of this node's policies, and of those that may still be in the kernel. */
  #collectPeers(
    drafts: readonly PolicyDraft[],
    { retain = [] }: CompileOptions,
  ): ReadonlyMap<string, Peer> {
    const from = [drafts, ...retain.map(({ policies }) => policies)];
    if (samePartsAs(this.#peersFrom, from)) return this.#peers;
    const peers = new Map<string, Peer>();
    for (const { policies } of retain) {
      for (const { peers: own } of policies.values()) {
        for (const [key, peer] of own) peers.set(key, peer);
      }
    }
    for (const draft of drafts) for (const [key, peer] of peersOf(draft)) peers.set(key, peer);
    this.#peersFrom = from;
    this.#peers = peers;
    return peers;
  }

  #build(planned: DnsPlan['planned']): Built {
    if (this.#built?.planned === planned && this.#ids.keep('policies')) return this.#built;
    const members = new MemberPolicyBuilder();
    const ids = this.#ids.use('policies');
    const { byDraft, dnsServers, rules } = buildPolicies(planned, ids, members);
    const former = this.#built;
    const byId = new Map<number, CompiledPolicy>();
    for (const policy of byDraft.values()) {
      const known = former?.byId.get(policy.id);
      byId.set(policy.id, known === undefined ? policy : sameAs(known, policy));
    }
    const isSame =
      former !== null &&
      byId.size === former.byId.size &&
      byId.entries().every(([id, policy]) => former.byId.get(id) === policy);
    const policies: BuiltPolicies = {
      byDraft,
      dnsServers: former === null ? dnsServers : sameAs(former.policies.dnsServers, dnsServers),
      rules,
    };
    this.#built = { planned, policies, byId: isSame ? former.byId : byId, members };
    return this.#built;
  }

  #makeMembers(
    { revision, retain = [], served }: CompileOptions,
    plan: DnsPlan,
    built: Built,
  ): Succession {
    const neverLearn = this.#classes.neverLearn();
    const from: readonly unknown[] = [
      ...[built, this.#endpoints, plan.trusted, plan.backendDigests, neverLearn, served],
      ...retain.flatMap(({ policies, members }) => [policies, ...partsOf(members)]),
    ];
    const last = this.#members;
    if (last !== null && samePartsAs(last.from, from)) {
      const { members, predecessorsForgotten } = last.succession;
      return { members: { ...members, revision }, predecessorsForgotten };
    }
    const builder = built.members.clone();
    for (const { policies, members } of retain) builder.retain(policies.values(), members);
    if (served !== undefined) builder.retainServed(served);
    const made = builder.build(
      {
        revision,
        endpoints: this.#endpoints.map(memberEndpoint),
        trustedServers: plan.trusted,
        neverLearn,
        backendDigests: plan.backendDigests,
      },
      earlierMembers(retain, served),
    );
    const members =
      last === null ? made.members : sameMembers(last.succession.members, made.members);
    const succession = { members, predecessorsForgotten: made.predecessorsForgotten };
    this.#members = { from, succession };
    return succession;
  }

  /** Whether it is not certain which policy counts for the pod: then nobody may speak for it yet. */
  #isHeld({ pod, isDisputed }: LocalPod, cluster: ClusterState): boolean {
    return (
      isDisputed ||
      (pod.isPartial === true && this.#specs.maySelect(pod)) ||
      (this.#specs.readsNamespaces && !cluster.namespaces.has(`/${pod.namespace}`))
    );
  }
}

/** All but the revision. */
function partsOf(members: MemberPolicy): readonly unknown[] {
  const { endpoints, patterns, selectors, ruleSets, policies } = members;
  const { trustedServers, neverLearn, backendDigests } = members;
  return [
    ...[endpoints, patterns, selectors, ruleSets, policies],
    ...[trustedServers, neverLearn, backendDigests],
  ];
}

/** The new ones, with the former one's parts where these are equal. */
function sameMembers(former: MemberPolicy, members: MemberPolicy): MemberPolicy {
  return {
    revision: members.revision,
    endpoints: sameAs(former.endpoints, members.endpoints),
    patterns: sameAs(former.patterns, members.patterns),
    selectors: sameAs(former.selectors, members.selectors),
    ruleSets: sameAs(former.ruleSets, members.ruleSets),
    policies: sameAs(former.policies, members.policies),
    trustedServers: sameAs(former.trustedServers, members.trustedServers),
    neverLearn: sameAs(former.neverLearn, members.neverLearn),
    backendDigests: sameAs(former.backendDigests, members.backendDigests),
  };
}

function earlierMembers(
  retain: readonly Compiled[],
  served: MemberPolicy | undefined,
): readonly MemberPolicy[] {
  const earlier = retain.map(({ members }) => members);
  return served === undefined ? earlier : [...earlier, served];
}

/** The pods that the map of endpoints has room for; those of fewer addresses first. */
function withRoom(pods: readonly LocalPod[]): {
  readonly localPods: readonly LocalPod[];
  readonly crowded: readonly LocalPod[];
} {
  const addresses = pods.reduce((sum, pod) => sum + pod.addresses.length, 0);
  if (addresses <= endpointsMax) return { localPods: pods, crowded: [] };
  const nameOf = ({ pod }: LocalPod): string => `${pod.namespace}/${pod.name}`;
  const ordered = pods.toSorted(
    (left, right) =>
      left.addresses.length - right.addresses.length || (nameOf(left) < nameOf(right) ? -1 : 1),
  );
  let count = 0;
  let kept = 0;
  for (const pod of ordered) {
    count += pod.addresses.length;
    if (count > endpointsMax) break;
    kept++;
  }
  return { localPods: ordered.slice(0, kept), crowded: ordered.slice(kept) };
}

function makeEndpoints(
  localPods: readonly LocalPod[],
  policyOf: (local: LocalPod) => CompiledPolicy | null,
  classes: AddressClasses,
  session: IdSession,
): readonly EndpointDesired[] {
  const podKey = ({ pod }: LocalPod): string => `${pod.namespace}/${pod.name}/${pod.uid}`;
  const contents = {
    endpoint: new Set(localPods.map(podKey)),
    namespace: new Set(localPods.map(({ pod }) => pod.namespace)),
  };
  const [endpointIds, namespaceIds] = session.assignEndpoints(contents);
  const endpoints: EndpointDesired[] = [];
  for (const local of localPods) {
    const { pod, addresses } = local;
    const policy = policyOf(local);
    for (const address of addresses) {
      endpoints.push({
        address,
        endpointId: endpointIds.get(podKey(local)) as number,
        pod: { namespace: pod.namespace, name: pod.name, uid: pod.uid },
        policyId: policy?.id ?? 0,
        classId: classes.at(address).classId,
        flags: policy?.flags ?? EndpointFlag.hold,
        namespaceId: namespaceIds.get(pod.namespace) as number,
        ...(pod.interfaceName === undefined ? {} : { interfaceName: pod.interfaceName }),
        ...(pod.sandboxId === undefined ? {} : { sandboxId: pod.sandboxId }),
      });
    }
  }
  return endpoints.sort((left, right) => compareAddresses(left.address, right.address));
}

function memberEndpoint({ pod, ...endpoint }: EndpointDesired): MemberEndpoint {
  const { address, endpointId, policyId, namespaceId } = endpoint;
  const { namespace, name } = pod;
  return { address, endpointId, policyId, namespaceId, namespace, pod: name };
}
