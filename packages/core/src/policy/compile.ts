// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Cluster state -> desired state of one node. Pure: the same input gives the same output in whatever
 * order the maps iterate, and the ids of what did not change do not change.
 *
 *   specs in force ─ per pod ─► drafts ─► classes (which selectors match whom)
 *                                  └────► DNS servers (which addresses those rules mean)
 *                                           └─► policies with ids ─► endpoints, members
 */
import type { Pod } from '../k8s/objects.ts';
import { endpointsMax } from '../limits.ts';
import { compareAddresses, formatAddress } from '../net/ip.ts';
import {
  type AddressOwner,
  findAddressOwners,
  isClusterDns,
  type LocalPod,
} from './address-owners.ts';
import { buildPolicies, peersOf, planPolicy } from './build-policies.ts';
import { AddressClasses } from './classes.ts';
import type { ClusterState, CompileOptions, NodeContext } from './cluster-state.ts';
import {
  crowdedDiagnostics,
  fqdnDiagnostics,
  holdDiagnostics,
  nodeDiagnostics,
  policyDiagnostics,
  sortDiagnostics,
} from './compile-diagnostics.ts';
import type {
  Compiled,
  CompiledPolicy,
  EndpointDesired,
  MemberEndpoint,
  MemberPolicy,
} from './desired.ts';
import { backendDigests } from './dns-backends.ts';
import { findFrontends } from './dns-frontends.ts';
import { DnsServerFinder } from './dns-servers.ts';
import { ClassFlag, classNeverLearn, EndpointFlag } from './kernel-numbers.ts';
import { identityKey, podIdentity, podNamespaceLabel } from './labels.ts';
import { MemberPolicyBuilder } from './member-policy.ts';
import { askedOfPods } from './named-ports.ts';
import type { Peer } from './peer.ts';
import {
  type ActiveSpec,
  activeSpecs,
  draftPolicy,
  type PolicyDraft,
  readsNamespaceLabels,
} from './policy-set.ts';
import { type LabelSelector, selectorMatches } from './selector.ts';
import type { StableIds } from './stable-ids.ts';

/** Compiles. `previousIds` is left as it is; `Compiled.ids` is its successor. */
export function compile(
  cluster: ClusterState,
  options: CompileOptions,
  previousIds: StableIds,
): Compiled {
  const { node } = options;
  const ids = previousIds.clone();
  ids.begin();
  const asked = askedOfPods(cluster);
  const specs = activeSpecs(cluster, asked);
  const {
    owners,
    localPods: allPods,
    diagnostics: ownerDiagnostics,
  } = findAddressOwners(cluster, node, asked);
  const { localPods, crowded } = withRoom(allPods);
  const { draftOf, drafts } = draftPolicies(localPods, specs);

  const peers = collectPeers(drafts, options);
  const classes = AddressClasses.build(closed(owners, crowded), peers, ids);
  const trusted = trustedServers(cluster, node);
  const trustedTexts = new Set(trusted.map((address) => formatAddress(address)));
  const frontends = findFrontends(cluster, node, classes, trustedTexts);
  const finder = new DnsServerFinder({ classes, peers, frontends, nodeLocal: node.nodeLocalDns });
  const members = new MemberPolicyBuilder();
  const planned = drafts.map((draft) => planPolicy(draft, finder.find(draft), trustedTexts));
  const { byDraft, dnsServers, rules } = buildPolicies(planned, ids, members);
  for (const { policies, members: earlier } of options.retain ?? []) {
    members.retain(policies.values(), earlier);
  }
  if (options.served !== undefined) members.retainServed(options.served);

  const isHeld = holdRule(cluster, specs);
  const policyOf = (local: LocalPod): CompiledPolicy | null =>
    isHeld(local) ? null : (byDraft.get(draftOf.get(local) as PolicyDraft) ?? null);
  const endpoints = makeEndpoints(localPods, policyOf, classes, ids);
  ids.retire();
  return {
    endpoints,
    classes: classes.entries(),
    classTable: classes.table,
    policies: new Map([...byDraft.values()].map((policy) => [policy.id, policy])),
    dnsServers,
    ...members.build(
      {
        revision: options.revision,
        endpoints: endpoints.map(memberEndpoint),
        trustedServers: trusted,
        neverLearn: classes.prefixesWith(classNeverLearn),
        backendDigests: backendDigests(
          cluster,
          dnsServers.map(({ server }) => server),
        ),
      },
      earlierMembers(options),
    ),
    rules,
    diagnostics: sortDiagnostics([
      ...cluster.diagnostics,
      ...policyDiagnostics(cluster),
      ...ownerDiagnostics,
      ...finder.diagnostics,
      ...fqdnDiagnostics(drafts),
      ...holdDiagnostics(endpoints, cluster),
      ...nodeDiagnostics(cluster, node),
      ...crowdedDiagnostics(crowded.map(({ pod }) => pod)),
    ]),
    fits: true,
    isRetained: true,
    ids,
  };
}

function earlierMembers({ retain, served }: CompileOptions): readonly MemberPolicy[] {
  const earlier = (retain ?? []).map(({ members }) => members);
  return served === undefined ? earlier : [...earlier, served];
}

/**
 * The resolvers whose answers count for every policy: those configured, or the ClusterIPs of
 * kube-system/kube-dns and the node-local caches. Not the pods behind them: a pod's address can become
 * another pod's while nobody is there to notice.
 */
export function trustedServers(cluster: ClusterState, node: NodeContext): readonly Uint8Array[] {
  const clusterDns = [...cluster.services.values()].filter(({ namespace, name }) =>
    isClusterDns(namespace, name),
  );
  const addresses = node.clusterResolvers ?? [
    ...clusterDns.flatMap(({ clusterIps }) => clusterIps),
    ...node.nodeLocalDns,
  ];
  const distinct = new Map(addresses.map((address) => [formatAddress(address), address]));
  return [...distinct.values()].sort(compareAddresses);
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

/** What is no endpoint, but in a range of this node's pods, is dropped. */
function closed(
  owners: readonly AddressOwner[],
  crowded: readonly LocalPod[],
): readonly AddressOwner[] {
  if (crowded.length === 0) return owners;
  const texts = new Set(crowded.flatMap(({ addresses }) => addresses.map(formatAddress)));
  return owners.map((owner) => {
    const isCrowded = owner.prefix.bits === 128 && texts.has(formatAddress(owner.prefix.address));
    return isCrowded ? { ...owner, flags: owner.flags | ClassFlag.localPods } : owner;
  });
}

/** One draft for all pods that the same specs select. Pods with equal labels are asked once. */
function draftPolicies(
  localPods: readonly LocalPod[],
  specs: readonly ActiveSpec[],
): {
  readonly draftOf: ReadonlyMap<LocalPod, PolicyDraft>;
  readonly drafts: readonly PolicyDraft[];
} {
  const byIdentity = new Map<string, PolicyDraft>();
  const byContent = new Map<string, PolicyDraft>();
  const draftOf = new Map<LocalPod, PolicyDraft>();
  for (const local of localPods) {
    const key = identityKey(local.identity);
    let draft = byIdentity.get(key);
    if (draft === undefined) {
      const selecting = specs.filter(({ spec }) => selectorMatches(spec.subject, local.identity));
      const fresh = draftPolicy(selecting);
      draft = byContent.get(fresh.content) ?? fresh;
      byContent.set(draft.content, draft);
      byIdentity.set(key, draft);
    }
    draftOf.set(local, draft);
  }
  const drafts = [...byContent.values()].sort((left, right) =>
    left.content < right.content ? -1 : 1,
  );
  return { draftOf, drafts };
}

/** The peers of this node's policies, and of those that may still be in the kernel. */
function collectPeers(
  drafts: readonly PolicyDraft[],
  options: CompileOptions,
): ReadonlyMap<string, Peer> {
  const peers = new Map<string, Peer>();
  const retained = (options.retain ?? []).flatMap(({ policies }) => [...policies.values()]);
  for (const policy of retained) for (const [key, peer] of policy.peers) peers.set(key, peer);
  for (const draft of drafts) for (const [key, peer] of peersOf(draft)) peers.set(key, peer);
  return peers;
}

/** The part of a selector that names namespaces. */
function namespacesOf({ requirements }: LabelSelector): LabelSelector {
  return { requirements: requirements.filter(({ name }) => name === podNamespaceLabel) };
}

/** Pods whose policy is not certain: nobody may speak for them yet. */
function holdRule(
  cluster: ClusterState,
  specs: readonly ActiveSpec[],
): (local: LocalPod) => boolean {
  const needsNamespaces = readsNamespaceLabels(specs);
  const subjects = specs.map(({ spec }) => namespacesOf(spec.subject));
  const maySelect = (pod: Pod): boolean => {
    const identity = podIdentity({ ...pod, labels: new Map() }, undefined, '');
    return subjects.some((selector) => selectorMatches(selector, identity));
  };
  return ({ pod, isDisputed }) =>
    isDisputed ||
    (pod.isPartial === true && maySelect(pod)) ||
    (needsNamespaces && !cluster.namespaces.has(`/${pod.namespace}`));
}

function makeEndpoints(
  localPods: readonly LocalPod[],
  policyOf: (local: LocalPod) => CompiledPolicy | null,
  classes: AddressClasses,
  ids: StableIds,
): readonly EndpointDesired[] {
  const podKey = ({ pod }: LocalPod): string => `${pod.namespace}/${pod.name}/${pod.uid}`;
  const endpointIds = ids.assign('endpoint', new Set(localPods.map(podKey)));
  const namespaces = new Set(localPods.map(({ pod }) => pod.namespace));
  const namespaceIds = ids.assign('namespace', namespaces);
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
