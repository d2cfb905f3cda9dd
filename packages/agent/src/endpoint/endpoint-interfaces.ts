// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Which interface each local pod has: found once and kept until the pod ends, whatever later objects say. It
 * ends with the interface itself, which the kernel reports by removing it from `pod_devices`, or with the pod.
 * A pod ends in this order: its network namespace goes, then its object. A pod whose interface went is therefore a
 * problem only if its object stays for `endedMsMax`.
 */

import type { EndpointId, Ifindex } from '@tandem/core/ids';
import { formatAddress } from '@tandem/core/net/ip';
import type { EndpointDesired } from '@tandem/core/policy/model/desired';
import type { Link } from '@tandem/netlink/link';
import type { NetworkState } from '@tandem/netlink/network-state';
import { type Clock, systemClock } from '@tandem/runtime/system-clock';
import { endedMsMax } from '../limits.ts';
import {
  describeInterface,
  findInterface,
  ownVethFix,
  type PodInterface,
  type SearchProblem,
} from './pod-interface.ts';

/** Interface that was found for a pod before, by this process or an earlier one. */
export interface KnownInterface {
  readonly ifindex: Ifindex;
  /** Ethernet address of the pod behind a bridge port; null: not known. */
  readonly mac: Uint8Array | null;
}

export interface InterfaceSources {
  readonly state: NetworkState;
  readonly isTrusted: (ifindex: Ifindex) => boolean;
  /** Whether the interface is the one that programs were attached to: not another with its index. */
  readonly isAttached: (ifindex: Ifindex) => boolean;
  /** MAC address of the other end of a veth; null: it can't be read. */
  readonly peerMac: (link: Link) => Promise<Uint8Array | null>;
}

export interface InterfaceProblem {
  readonly code: SearchProblem['code'];
  readonly endpoint: EndpointDesired;
  readonly message: string;
  readonly fix: string;
}

export interface ResolvedInterfaces {
  /** By `endpointId`. */
  readonly found: ReadonlyMap<EndpointId, PodInterface>;
  readonly problems: readonly InterfaceProblem[];
}

export class EndpointInterfaces {
  /** By `endpointId`. */
  #known: Map<EndpointId, KnownInterface>;
  /** When the interface of a pod was first missed, by `endpointId`; monotonic clock, ms. */
  #missedMs: ReadonlyMap<EndpointId, number> = new Map();
  readonly #clock: Pick<Clock, 'monotonicMs'>;

  /** `known`: what `endpoints` in the kernel says, from before this process. */
  constructor(
    known: ReadonlyMap<EndpointId, KnownInterface>,
    clock: Pick<Clock, 'monotonicMs'> = systemClock,
  ) {
    this.#known = new Map(known);
    this.#clock = clock;
  }

  /** Never rejects: a fault of one pod's interface concerns that pod alone. */
  async resolve(
    desired: readonly EndpointDesired[],
    sources: InterfaceSources,
  ): Promise<ResolvedInterfaces> {
    const { state, isAttached } = sources;
    const pods = byPod(desired);
    const nowMs = this.#clock.monotonicMs();
    const known = new Map<EndpointId, KnownInterface>();
    const owners = new Map<Ifindex, EndpointDesired>();
    const missedMs = new Map<EndpointId, number>();
    for (const [endpointId, [first]] of pods) {
      const missed = this.#missedMs.get(endpointId);
      if (missed !== undefined) missedMs.set(endpointId, missed);
      const kept = this.#known.get(endpointId);
      if (kept === undefined || first === undefined) continue;
      if (!state.links.has(kept.ifindex) || !isAttached(kept.ifindex)) {
        missedMs.set(endpointId, nowMs);
        continue;
      }
      // oxlint-disable-next-line no-await-in-loop -- of the few whose address was not read before
      known.set(endpointId, await withMac(kept, sources));
      owners.set(kept.ifindex, first);
    }
    const problems: InterfaceProblem[] = [];
    for (const [endpointId, addresses] of pods) {
      if (known.has(endpointId)) continue;
      // oxlint-disable-next-line no-await-in-loop -- who comes first has the interface
      const result = await this.#find(addresses, owners, known, sources);
      if ('message' in result) {
        const missed = missedMs.get(endpointId);
        const isEnded = missed !== undefined && nowMs - missed < endedMsMax;
        if (!isEnded || result.code !== 'interface-not-found') problems.push(result);
      } else {
        missedMs.delete(endpointId);
        known.set(endpointId, result);
        owners.set(result.ifindex, addresses[0] as EndpointDesired);
      }
    }
    this.#known = known;
    this.#missedMs = missedMs;
    const found = new Map<EndpointId, PodInterface>();
    for (const [endpointId, { ifindex, mac }] of known) {
      const link = state.links.get(ifindex);
      if (link !== undefined) found.set(endpointId, describeInterface(state, link, mac));
    }
    return { found, problems };
  }

  async #find(
    addresses: readonly EndpointDesired[],
    owners: ReadonlyMap<Ifindex, EndpointDesired>,
    known: ReadonlyMap<EndpointId, KnownInterface>,
    sources: InterfaceSources,
  ): Promise<KnownInterface | InterfaceProblem> {
    const { state, isTrusted, peerMac } = sources;
    const [endpoint] = addresses as [EndpointDesired];
    const searches = addresses.map((each) =>
      findInterface(
        state,
        {
          addressText: formatAddress(each.address),
          ...(each.interfaceName === undefined ? {} : { interfaceName: each.interfaceName }),
        },
        isTrusted,
      ),
    );
    const links = searches.flatMap((search) => ('link' in search ? [search.link] : []));
    const [link] = links;
    if (link === undefined) {
      const problems = searches.flatMap((search) => ('problem' in search ? [search] : []));
      const refusal = problems.find(({ code }) => code === 'interface-refused');
      const { code, fix } = refusal ?? (problems[0] as SearchProblem);
      const reasons = new Set(problems.map(({ problem }) => problem));
      return { code, endpoint, message: [...reasons].join(', '), fix };
    }
    const refused = (message: string, fix: string): InterfaceProblem => ({
      code: 'interface-refused',
      endpoint,
      message,
      fix,
    });
    const other = links.find(({ ifindex }) => ifindex !== link.ifindex);
    if (other !== undefined) {
      const message = `its addresses lead to different interfaces, ${link.name} and ${other.name}`;
      return refused(message, ownVethFix);
    }
    const owner = owners.get(link.ifindex);
    if (owner !== undefined) {
      return refused(`${link.name} is the interface of ${nameOf(owner)}`, ownVethFix);
    }
    const bridge = state.links.get(link.master);
    if (bridge?.kind !== 'bridge') return { ifindex: link.ifindex, mac: null };
    const mac = await peerMac(link);
    if (mac === null) {
      const message = `the MAC address of the pod behind ${link.name} cannot be read`;
      return refused(message, 'it is read again within seconds');
    }
    const problem = macProblem(mac, bridge, known, sources);
    if (problem === null) return { ifindex: link.ifindex, mac };
    return refused(`${link.name}: ${problem}`, 'give the pod a MAC address that nothing else has');
  }
}

/** An interface that an agent of before attached without it gets the MAC address of the pod behind its bridge. */
async function withMac(
  kept: KnownInterface,
  { state, peerMac }: InterfaceSources,
): Promise<KnownInterface> {
  const link = state.links.get(kept.ifindex);
  const isBridged = link !== undefined && state.links.get(link.master)?.kind === 'bridge';
  return kept.mac === null && isBridged ? { ...kept, mac: await peerMac(link) } : kept;
}

/**
 * Why a bridge could not tell this pod from others by its MAC address: the sticky entry that it gets takes their frames
 * away from them. A pod's own frames move the forwarding entry of a router, but not what the node knows of its gateway.
 */
function macProblem(
  mac: Uint8Array,
  bridge: Link,
  known: ReadonlyMap<EndpointId, KnownInterface>,
  { state, isTrusted }: InterfaceSources,
): string | null {
  const isIt = (other: Uint8Array): boolean => Buffer.compare(mac, other) === 0;
  const text = Buffer.from(mac)
    .toString('hex')
    .replaceAll(/(..)(?=.)/g, '$1:');
  if (((mac[0] ?? 0) & 1) !== 0) return `its MAC address ${text} is one of a group`;
  if (isIt(bridge.mac)) return `its MAC address ${text} is the one of the bridge ${bridge.name}`;
  for (const { master, mac: own, name } of state.links.values()) {
    if (master === bridge.ifindex && isIt(own)) {
      return `its MAC address ${text} is the one of ${name}, a port of the bridge ${bridge.name}`;
    }
  }
  for (const { ifindex, mac: others } of known.values()) {
    const isNeighbour = state.links.get(ifindex)?.master === bridge.ifindex;
    if (isNeighbour && others !== null && isIt(others)) {
      return `its MAC address ${text} is the one of another pod at the bridge ${bridge.name}`;
    }
  }
  for (const gateway of state.routes.gateways) {
    const neighbor = state.neighbor(bridge.ifindex, gateway);
    if (neighbor !== undefined && isIt(neighbor.mac)) {
      return `its MAC address ${text} is the one of the router ${formatAddress(gateway)} at the bridge ${bridge.name}`;
    }
  }
  for (const entry of state.forwarding) {
    if (entry.bridge === bridge.ifindex && isTrusted(entry.port) && isIt(entry.mac)) {
      return `its MAC address ${text} is one of a neighbour behind ${state.links.get(entry.port)?.name}, a port of the bridge ${bridge.name} that leads out`;
    }
  }
  return null;
}

/** Addresses of each pod. */
function byPod(
  desired: readonly EndpointDesired[],
): ReadonlyMap<EndpointId, readonly EndpointDesired[]> {
  const pods = new Map<EndpointId, EndpointDesired[]>();
  for (const endpoint of desired) {
    const addresses = pods.get(endpoint.endpointId);
    if (addresses === undefined) pods.set(endpoint.endpointId, [endpoint]);
    else addresses.push(endpoint);
  }
  return pods;
}

export const nameOf = ({ pod }: EndpointDesired): string => `Pod/${pod.namespace}/${pod.name}`;
