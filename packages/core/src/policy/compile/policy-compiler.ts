// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Cluster state -> desired state of one node. The result depends on the input alone: the same input gives the
 * same output in any order of the maps, and ids of unchanged contents do not change. State that is kept from
 * one compilation to the next only saves work: each stage is done again where its input has changed, and
 * an unchanged part of the result is the same object as before.
 *
 *   specs in force ─ per pod ─► drafts ─► classes (which selectors match whom)
 *                                  ├────► redirects (which frontends lead to pods of this node)
 *                                  └────► DNS servers (which addresses those rules mean)
 *                                           └─► policies with ids ─► endpoints, members
 */

import { classSelectorsMax, endpointsMax } from '../../limits.ts';
import type { LocalPod } from '../classes/address-owners.ts';
import { AddressClasses } from '../classes/classes.ts';
import { OwnerTable } from '../classes/owner-table.ts';
import { PeerTable } from '../classes/peer-table.ts';
import { type DnsIngress, dnsIngressDiagnostics } from '../dns/dns-ingress-check.ts';
import { planRedirects, type RedirectPlan } from '../dns/redirects.ts';
import type { ClusterState, CompileOptions, NodeContext } from '../model/cluster-state.ts';
import type { Compiled, Diagnostic } from '../model/desired.ts';
import { IdSession } from '../model/id-session.ts';
import { Verdict } from '../model/kernel-numbers.ts';
import type { PolicyDraft } from '../model/policy-set.ts';
import { sameAs, samePartsAs } from '../model/same-as.ts';
import type { StableIds } from '../model/stable-ids.ts';
import { PolicyTable, peersOf } from './build-policies.ts';
import {
  crowdedDiagnostics,
  fqdnDiagnostics,
  holdDiagnostics,
  nodeDiagnostics,
  sortDiagnostics,
  tierDiagnostics,
} from './compile-diagnostics.ts';
import { DnsPlanner } from './dns-planner.ts';
import { EndpointTable } from './endpoint-table.ts';
import { MemberTable } from './member-table.ts';
import { SpecTable } from './spec-table.ts';

const noRedirects: RedirectPlan = { redirects: [], diagnostics: [] };

interface Said {
  readonly parts: readonly (readonly Diagnostic[])[];
  readonly sorted: readonly Diagnostic[];
}

export class PolicyCompiler {
  #owners = new OwnerTable();
  #specs = new SpecTable();
  #drafts: readonly PolicyDraft[] = [];
  #peers = new PeerTable();
  #classes: AddressClasses;
  readonly #classSelectorsMax: number;
  #redirects: RedirectPlan = noRedirects;
  #dns = new DnsPlanner();
  #policies = new PolicyTable();
  #endpoints = new EndpointTable();
  #members = new MemberTable();
  readonly #ids = new IdSession();
  #said: Said = { parts: [], sorted: [] };

  constructor(selectorsMax: number = classSelectorsMax) {
    this.#classSelectorsMax = selectorsMax;
    this.#classes = new AddressClasses(selectorsMax);
  }

  /** Objects that select pods of the node, as `formatPolicyRef` names them, as of the last compilation, or of the one that failed. */
  subjects(): ReadonlySet<string> {
    return new Set(this.#drafts.flatMap(({ specs }) => specs.map(({ subject }) => subject)));
  }

  /** Compiles. `previousIds` is left as it is; `Compiled.ids` is its successor. @throws ClassOverflow; and whatever a bug makes it throw */
  compile(cluster: ClusterState, options: CompileOptions, previousIds: StableIds): Compiled {
    try {
      return this.#compile(cluster, options, previousIds);
    } catch (error) {
      // The state of an unfinished stage is not known.
      this.reset();
      throw error;
    }
  }

  /** Forgets everything: the next compilation is made from nothing. */
  reset(): void {
    this.#owners = new OwnerTable();
    this.#specs = new SpecTable();
    this.#peers = new PeerTable();
    this.#classes = new AddressClasses(this.#classSelectorsMax);
    this.#redirects = noRedirects;
    this.#dns = new DnsPlanner();
    this.#policies = new PolicyTable();
    this.#endpoints = new EndpointTable();
    this.#members = new MemberTable();
    this.#ids.reset();
  }

  #compile(cluster: ClusterState, options: CompileOptions, previousIds: StableIds): Compiled {
    const { node } = options;
    this.#ids.begin(previousIds);
    const asked = this.#specs.update(cluster, this.#owners.portNumbers(cluster.pods));
    this.#owners.update(cluster, node, asked);
    const { localPods, crowded } = withRoom(this.#owners.localPods());
    this.#owners.setCrowded(crowded.flatMap(({ addresses }) => addresses));
    const { draftOf, drafts } = this.#specs.draft(localPods);
    this.#drafts = drafts;

    // Of policies that may still be in the kernel, too.
    const { retain = [] } = options;
    const retained = retain.flatMap(({ policies }) => [...policies.values()]);
    this.#peers.update([...drafts.map(peersOf), ...retained.map(({ peers }) => peers)]);
    this.#classes.update(this.#owners, this.#peers, this.#ids);
    const redirects = planRedirects(cluster, node, {
      localPods,
      hostPods: this.#owners.hostPods(),
      flagsOf: (address) => this.#classes.at(address).flags,
      isAskedByName: (pod) =>
        draftOf(pod).statements.some(({ verdict }) => verdict === Verdict.l7Dns),
    });
    this.#redirects = {
      redirects: sameAs(this.#redirects.redirects, redirects.redirects),
      diagnostics: redirects.diagnostics,
    };
    const surroundings = { classes: this.#classes, redirects: this.#redirects.redirects };
    const plan = this.#dns.plan(cluster, node, surroundings, this.#peers.peers, drafts);
    const built = this.#policies.update(plan.planned, this.#ids);
    const endpoints = this.#endpoints.update(
      localPods,
      (local) =>
        this.#isHeld(local, cluster) ? null : (built.byDraft.get(draftOf(local)) ?? null),
      this.#classes,
      this.#ids,
    );
    const { members, predecessorsForgotten } = this.#members.update(
      { built, endpoints, plan, neverLearn: this.#classes.neverLearn() },
      options,
    );
    return {
      endpoints,
      classes: this.#classes.entries,
      classTable: this.#classes.table,
      policies: built.byId,
      dnsServers: built.dnsServers,
      members,
      predecessorsForgotten,
      rules: built.rules,
      redirects: this.#redirects.redirects,
      diagnostics: this.#diagnostics([
        cluster.diagnostics,
        this.#specs.diagnostics(),
        this.#owners.diagnostics(),
        plan.diagnostics,
        redirects.diagnostics,
        this.#dnsIngress({ localPods, draftOf }, cluster, node),
        fqdnDiagnostics(drafts),
        tierDiagnostics(drafts),
        holdDiagnostics(endpoints, cluster),
        nodeDiagnostics(cluster, node),
        crowdedDiagnostics(crowded.map(({ pod }) => pod)),
      ]),
      fits: true,
      isRetained: true,
      ids: this.#ids.end(),
    };
  }

  /** Without DNS rules no member asks a server. */
  #dnsIngress(
    pods: Pick<DnsIngress, 'localPods' | 'draftOf'>,
    cluster: ClusterState,
    node: NodeContext,
  ): readonly Diagnostic[] {
    if (!this.#specs.hasDnsRules) return [];
    const { dnsPods } = this.#dns;
    return dnsIngressDiagnostics(cluster, node, { ...pods, dnsPods, classes: this.#classes });
  }

  /** Sorted; the same object while they are the same. */
  #diagnostics(parts: readonly (readonly Diagnostic[])[]): readonly Diagnostic[] {
    const { parts: former, sorted } = this.#said;
    const same = parts.map((part, i) => sameAs(former[i] ?? part, part));
    if (former.length > 0 && samePartsAs(former, same)) return sorted;
    this.#said = { parts: same, sorted: sortDiagnostics(same.flat()) };
    return this.#said.sorted;
  }

  /** Whether it is not certain which policy counts for the pod: then it gets none yet. */
  #isHeld({ pod, isDisputed }: LocalPod, cluster: ClusterState): boolean {
    return (
      isDisputed ||
      (pod.isPartial === true && this.#specs.maySelect(pod)) ||
      (this.#specs.readsNamespaces && !cluster.namespaces.has(`/${pod.namespace}`))
    );
  }
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
