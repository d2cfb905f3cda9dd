// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The DNS servers of all policies of the node. Of a cluster's Services few are DNS servers, so those alone are looked
 * at, and what was found holds as long as nothing changes that it was found by.
 */

import { MapFollower } from '../../change-map.ts';
import type { EndpointSlice, Service } from '../../k8s/objects.ts';
import { dnsWatchedInVainMax } from '../../limits.ts';
import { compareAddresses, formatAddress } from '../../net/ip.ts';
import { clusterDnsServices, isClusterDns } from '../classes/address-owners.ts';
import type { AddressClasses } from '../classes/classes.ts';
import { backendDigests } from '../dns/dns-backends.ts';
import {
  type Frontend,
  findFrontends,
  protocolNumber,
  type SlicesByService,
  slicesByService,
} from '../dns/dns-frontends.ts';
import { type DnsPod, dnsPodsOf } from '../dns/dns-ingress-check.ts';
import { coversPort } from '../dns/dns-judge.ts';
import { type DnsSurroundings, dnsPort, findServers } from '../dns/dns-servers.ts';
import { DnsAnswers, DnsView } from '../dns/dns-view.ts';
import type { ClusterState, NodeContext } from '../model/cluster-state.ts';
import type { BackendDigest, Diagnostic } from '../model/desired.ts';
import { Direction, Verdict } from '../model/kernel-numbers.ts';
import type { Peer } from '../model/peer.ts';
import type { PolicyDraft, Statement } from '../model/policy-set.ts';
import type { Redirect } from '../model/redirect.ts';
import { sameAs, samePartsAs } from '../model/same-as.ts';
import { type PlannedPolicy, planPolicy } from './build-policies.ts';

export interface DnsPlan {
  readonly planned: readonly PlannedPolicy[];
  readonly trusted: readonly Uint8Array[];
  readonly backendDigests: readonly BackendDigest[];
  readonly diagnostics: readonly Diagnostic[];
}

export interface DnsInput {
  readonly classes: AddressClasses;
  /** The same object while they are the same. */
  readonly redirects: readonly Redirect[];
  /** As of `NameSets`. */
  readonly namesMax?: number;
}

/** Data that is the same for all policies of the node. */
interface Surroundings {
  readonly facts: string;
  readonly ports: PortsOfRules;
  readonly trusted: readonly Uint8Array[];
  readonly trustedTexts: ReadonlySet<string>;
  /** Services that may be DNS servers. */
  readonly services: readonly Service[];
  /** These, as `namespace/name`. */
  readonly looked: ReadonlySet<string>;
  readonly slices: SlicesByService;
  readonly frontends: readonly Frontend[];
  /** The pods behind the cluster's DNS. */
  readonly dnsPods: readonly DnsPod[];
  readonly redirects: readonly Redirect[];
  /** By which frontends were found. */
  readonly view: DnsView;
  readonly answers: DnsAnswers;
}

/** Result for one policy. */
interface Found {
  readonly planned: PlannedPolicy;
  readonly diagnostics: readonly Diagnostic[];
  readonly view: DnsView;
}

export class DnsPlanner {
  readonly #services = new MapFollower<Service>();
  readonly #slices = new MapFollower<EndpointSlice>();
  #around: Surroundings | null = null;
  #found: ReadonlyMap<PolicyDraft, Found> = new Map();
  #drafts: readonly PolicyDraft[] = [];
  /** Addresses that only former views asked about: nothing watches them. */
  #watchedInVain = 0;
  #last: DnsPlan | null = null;

  /** The pods behind the cluster's DNS, as of the last `plan`. */
  get dnsPods(): readonly DnsPod[] {
    return this.#around?.dnsPods ?? [];
  }

  /** Parts that are as before are the same objects as before. */
  plan(
    cluster: ClusterState,
    node: NodeContext,
    { classes, redirects, namesMax }: DnsInput,
    peers: ReadonlyMap<string, Peer>,
    drafts: readonly PolicyDraft[],
  ): DnsPlan {
    const former = this.#around;
    const ports =
      former !== null && drafts === this.#drafts ? former.ports : PortsOfRules.of(drafts);
    this.#drafts = drafts;
    const isKept = this.#isKept(cluster, node, ports) && former?.redirects === redirects;
    const around = isKept
      ? (former as Surroundings)
      : lookAround(cluster, node, { classes, redirects }, ports);
    this.#around = around;
    if (!isKept) this.#watchedInVain = 0;
    const found = new Map<PolicyDraft, Found>();
    let isSame = this.#found.size === drafts.length;
    for (const draft of drafts) {
      const known = this.#found.get(draft);
      const isCurrent = isKept && known?.view.isCurrent === true;
      const input = { classes, peers, nodeLocal: node.nodeLocalDns, namesMax };
      const each = isCurrent ? known : find(draft, around, input, known);
      if (known !== undefined && !isCurrent) this.#watchedInVain += known.view.watched;
      if (each.planned !== known?.planned || each.diagnostics !== known.diagnostics) isSame = false;
      found.set(draft, each);
    }
    for (const [draft, { view }] of this.#found) {
      if (!found.has(draft)) this.#watchedInVain += view.watched;
    }
    this.#found = found;
    if (isKept && isSame && this.#last !== null) return this.#last;
    this.#last = planOf([...found.values()], around, this.#last);
    return this.#last;
  }

  /** Whether the facts found around the policies still hold. */
  #isKept(cluster: ClusterState, node: NodeContext, ports: PortsOfRules): boolean {
    const around = this.#around;
    const services = this.#services.follow(cluster.services);
    const slices = this.#slices.follow(cluster.endpointSlices);
    if (around === null || around.facts !== factsOf(node)) return false;
    if (around.ports.text !== ports.text || this.#watchedInVain > dnsWatchedInVainMax) return false;
    const isTouched = [...slices].some(([key, former]) =>
      [former, cluster.endpointSlices.get(key)].some((slice) => concerns(slice, around)),
    );
    return !isTouched && !areServicesTouched(services, cluster, around) && around.view.isCurrent;
  }
}

/** Whether one of these Services, of before or now, is a DNS server, or may be one. */
function areServicesTouched(
  changed: ReadonlyMap<string, Service | undefined>,
  { services, endpointSlices }: ClusterState,
  around: Surroundings,
): boolean {
  if (changed.size === 0) return false;
  const names = new Set<string>();
  for (const [key, former] of changed) {
    for (const service of [former, services.get(key)]) {
      if (service === undefined) continue;
      const name = `${service.namespace}/${service.name}`;
      const isOfDns = service.ports.some(({ port }) => port === dnsPort);
      if (isOfDns || around.looked.has(name) || isClusterDns(service)) {
        return true;
      }
      names.add(name);
    }
  }
  for (const slice of endpointSlices.values()) {
    const isTheirs = names.has(`${slice.namespace}/${slice.serviceName}`);
    if (isTheirs && around.ports.concern(slice)) return true;
  }
  return false;
}

function factsOf(node: NodeContext): string {
  return JSON.stringify([node.nodeLocalDns, node.clusterResolvers]);
}

function lookAround(
  cluster: ClusterState,
  node: NodeContext,
  { classes, redirects }: DnsInput,
  ports: PortsOfRules,
): Surroundings {
  classes.forgetWatched();
  const answers = new DnsAnswers(classes);
  const view = new DnsView(classes, answers);
  const trusted = trustedServers(cluster, node);
  const trustedTexts = new Set(trusted.map((address) => formatAddress(address)));
  const slices = slicesByService(cluster.endpointSlices.values());
  const services = [...cluster.services.values()].filter((service) =>
    mayServe(service, slices, ports),
  );
  const looked = new Set(services.map(({ namespace, name }) => `${namespace}/${name}`));
  // The slices of others are looked at again when they change.
  const own = new Map([...slices].filter(([name]) => looked.has(name)));
  const frontends = findFrontends(services, own, node, view, { trusted: trustedTexts, redirects });
  const clusterDns = services.filter(({ clusterIps }) =>
    clusterIps.some((each) => trustedTexts.has(formatAddress(each))),
  );
  return {
    ...{ facts: factsOf(node), ports, trusted, trustedTexts, services, looked },
    ...{ slices: own, frontends, dnsPods: dnsPodsOf(clusterDns, own), view, answers, redirects },
  };
}

type FindInput = Pick<DnsSurroundings, 'peers' | 'nodeLocal' | 'namesMax'> & {
  readonly classes: AddressClasses;
};

/** `former`: the last result; unchanged parts stay the same objects. */
function find(
  draft: PolicyDraft,
  { frontends, trustedTexts, answers }: Surroundings,
  { classes, ...input }: FindInput,
  former: Found | undefined,
): Found {
  const view = new DnsView(classes, answers);
  const { servers, diagnostics } = findServers(draft, { ...input, classes: view, frontends });
  const planned = planPolicy(draft, servers, trustedTexts);
  if (former === undefined) return { planned, diagnostics, view };
  return {
    planned: isSamePlan(former.planned, planned) ? former.planned : planned,
    diagnostics: sameAs(former.diagnostics, diagnostics),
    view,
  };
}

/** Whether two plans of one draft are equal. */
function isSamePlan(left: PlannedPolicy, right: PlannedPolicy): boolean {
  return left.content === right.content && sameAs(left.servers, right.servers) === left.servers;
}

function planOf(
  found: readonly Found[],
  { trusted, services, slices, redirects }: Surroundings,
  last: DnsPlan | null,
): DnsPlan {
  const planned = found.map((each) => each.planned);
  const servers = planned.flatMap((each) => each.servers.map(({ server }) => server));
  const plan = {
    ...{ planned, trusted },
    backendDigests: backendDigests(services, slices, servers, redirects),
    diagnostics: found.flatMap(({ diagnostics }) => diagnostics),
  };
  if (last === null) return plan;
  return {
    planned: samePartsAs(last.planned, planned) ? last.planned : planned,
    trusted: sameAs(last.trusted, trusted),
    backendDigests: sameAs(last.backendDigests, plan.backendDigests),
    diagnostics: sameAs(last.diagnostics, plan.diagnostics),
  };
}

/** A Service that leads nowhere where a DNS rule applies, and has no DNS port, can be no pod's DNS server. */
function mayServe(service: Service, slices: SlicesByService, ports: PortsOfRules): boolean {
  const { namespace, name } = service;
  if (service.ports.some(({ port }) => port === dnsPort)) return true;
  const own = slices.get(`${namespace}/${name}`) ?? [];
  return own.some((slice) => ports.concern(slice));
}

function concerns(slice: EndpointSlice | undefined, { looked, ports }: Surroundings): boolean {
  if (slice === undefined) return false;
  const isLooked = looked.has(`${slice.namespace}/${slice.serviceName}`);
  return isLooked || ports.concern(slice);
}

/** Ports that some DNS rule names. */
class PortsOfRules {
  /** Says which they are: equal texts are equal ports. */
  readonly text: string;
  readonly #ports: readonly Statement['ports'][];
  readonly #answers = new Map<string, boolean>();

  private constructor(ports: ReadonlyMap<string, Statement['ports']>) {
    this.text = [...ports.keys()].sort().join(' ');
    this.#ports = [...ports.values()];
  }

  static of(drafts: readonly PolicyDraft[]): PortsOfRules {
    const ports = new Map<string, Statement['ports']>();
    for (const draft of drafts) for (const [text, own] of portsOf(draft)) ports.set(text, own);
    return new PortsOfRules(ports);
  }

  concern({ ports }: EndpointSlice): boolean {
    return ports.some(({ protocol, port }) => {
      const key = `${protocol} ${port}`;
      let answer = this.#answers.get(key);
      if (answer === undefined) {
        const number = protocolNumber(protocol);
        answer =
          number !== null && this.#ports.some((own) => coversPort({ ports: own }, number, port));
        this.#answers.set(key, answer);
      }
      return answer;
    });
  }
}

const portsOfDrafts = new WeakMap<PolicyDraft, ReadonlyMap<string, Statement['ports']>>();

/** Ports of its DNS rules, by their texts. */
function portsOf(draft: PolicyDraft): ReadonlyMap<string, Statement['ports']> {
  const known = portsOfDrafts.get(draft);
  if (known !== undefined) return known;
  const ports = new Map<string, Statement['ports']>();
  for (const { direction, verdict, ports: own } of draft.statements) {
    if (direction !== Direction.egress || verdict !== Verdict.l7Dns) continue;
    ports.set(textOfPorts(own), own);
  }
  portsOfDrafts.set(draft, ports);
  return ports;
}

function textOfPorts(ports: Statement['ports']): string {
  if (ports === 'any') return 'any';
  return ports.map(({ protocol, first, last }) => `${protocol}/${first}-${last}`).join(',');
}

/**
 * The resolvers whose answers count for every policy: those configured, or the ClusterIPs of the cluster's DNS
 * (`isClusterDns`) and the node-local caches. Not the pods behind them: a pod's address can become
 * another pod's while no agent runs.
 */
export function trustedServers(cluster: ClusterState, node: NodeContext): readonly Uint8Array[] {
  const addresses = node.clusterResolvers ?? [
    ...clusterDnsServices(cluster).flatMap(({ clusterIps }) => clusterIps),
    ...node.nodeLocalDns,
  ];
  const distinct = new Map(addresses.map((address) => [formatAddress(address), address]));
  return [...distinct.values()].sort(compareAddresses);
}
