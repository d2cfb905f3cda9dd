// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The DNS servers of all policies of the node. Of a cluster's Services few are DNS servers, so those alone are looked
 * at, and what was found holds as long as nothing changes that it was found by.
 */
import { MapFollower } from '../change-map.ts';
import type { EndpointSlice, Service } from '../k8s/objects.ts';
import { compareAddresses, formatAddress } from '../net/ip.ts';
import { isClusterDns } from './address-owners.ts';
import { type PlannedPolicy, planPolicy } from './build-policies.ts';
import type { AddressClasses } from './classes.ts';
import type { ClusterState, NodeContext } from './cluster-state.ts';
import type { BackendDigest, Diagnostic } from './desired.ts';
import { backendDigests } from './dns-backends.ts';
import {
  findFrontends,
  protocolNumber,
  type SlicesByService,
  slicesByService,
} from './dns-frontends.ts';
import { coversPort } from './dns-judge.ts';
import { DnsServerFinder, dnsPort } from './dns-servers.ts';
import { DnsView } from './dns-view.ts';
import { Direction, Verdict } from './kernel-numbers.ts';
import type { Peer } from './peer.ts';
import type { PolicyDraft, Statement } from './policy-set.ts';

export interface DnsPlan {
  readonly planned: readonly PlannedPolicy[];
  readonly trusted: readonly Uint8Array[];
  readonly backendDigests: readonly BackendDigest[];
  readonly diagnostics: readonly Diagnostic[];
}

interface Planned {
  readonly plan: DnsPlan;
  readonly view: DnsView;
  readonly drafts: readonly PolicyDraft[];
  readonly facts: string;
  readonly ports: PortsOfRules;
  /** Services that were looked at, as `namespace/name`. */
  readonly looked: ReadonlySet<string>;
}

export class DnsPlanner {
  readonly #services = new MapFollower<Service>();
  readonly #slices = new MapFollower<EndpointSlice>();
  #last: Planned | null = null;

  /** The same object as before while nothing changed. */
  plan(
    cluster: ClusterState,
    node: NodeContext,
    classes: AddressClasses,
    peers: ReadonlyMap<string, Peer>,
    drafts: readonly PolicyDraft[],
  ): DnsPlan {
    const facts = JSON.stringify([node.nodeLocalDns, node.clusterResolvers]);
    const last = this.#last;
    const areServices = this.#services.follow(cluster.services).size === 0;
    const slices = this.#slices.follow(cluster.endpointSlices);
    if (last !== null && areServices && last.drafts === drafts && last.facts === facts) {
      const isTouched = [...slices].some(([key, former]) =>
        [former, cluster.endpointSlices.get(key)].some((slice) => concerns(slice, last)),
      );
      if (!isTouched && last.view.isCurrent) return last.plan;
    }
    this.#last = makePlan(cluster, node, classes, peers, drafts, facts);
    return this.#last.plan;
  }
}

function makePlan(
  cluster: ClusterState,
  node: NodeContext,
  classes: AddressClasses,
  peers: ReadonlyMap<string, Peer>,
  drafts: readonly PolicyDraft[],
  facts: string,
): Planned {
  const view = new DnsView(classes);
  const rules = drafts.flatMap(({ statements }) =>
    statements.filter(
      ({ direction, verdict }) => direction === Direction.egress && verdict === Verdict.l7Dns,
    ),
  );
  const ports = new PortsOfRules(rules);
  const trusted = trustedServers(cluster, node);
  const trustedTexts = new Set(trusted.map((address) => formatAddress(address)));
  const slices = slicesByService(cluster.endpointSlices.values());
  const services = [...cluster.services.values()].filter((service) =>
    mayServe(service, slices, ports),
  );
  const frontends = findFrontends(services, slices, node, view, trustedTexts);
  const finder = new DnsServerFinder({
    ...{ classes: view, peers, frontends },
    nodeLocal: node.nodeLocalDns,
  });
  const planned = drafts.map((draft) => planPolicy(draft, finder.find(draft), trustedTexts));
  const servers = planned.flatMap((each) => each.servers.map(({ server }) => server));
  const plan = {
    ...{ planned, trusted },
    backendDigests: backendDigests(services, slices, servers),
    diagnostics: [...finder.diagnostics],
  };
  const looked = new Set(services.map(({ namespace, name }) => `${namespace}/${name}`));
  return { plan, view, drafts, facts, ports, looked };
}

/** A Service that leads nowhere where a DNS rule applies, and has no DNS port, can be nobody's DNS server. */
function mayServe(service: Service, slices: SlicesByService, ports: PortsOfRules): boolean {
  const { namespace, name } = service;
  if (service.ports.some(({ port }) => port === dnsPort)) return true;
  const own = slices.get(`${namespace}/${name}`) ?? [];
  return own.some((slice) => ports.concern(slice));
}

function concerns(slice: EndpointSlice | undefined, { looked, ports }: Planned): boolean {
  if (slice === undefined) return false;
  const isLooked = looked.has(`${slice.namespace}/${slice.serviceName}`);
  return isLooked || ports.concern(slice);
}

/** Ports that some DNS rule names. */
class PortsOfRules {
  readonly #rules: readonly Statement[];
  readonly #answers = new Map<string, boolean>();

  constructor(rules: readonly Statement[]) {
    this.#rules = rules;
  }

  concern({ ports }: EndpointSlice): boolean {
    return ports.some(({ protocol, port }) => {
      const key = `${protocol} ${port}`;
      let answer = this.#answers.get(key);
      if (answer === undefined) {
        const number = protocolNumber(protocol);
        answer = number !== null && this.#rules.some((rule) => coversPort(rule, number, port));
        this.#answers.set(key, answer);
      }
      return answer;
    });
  }
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
