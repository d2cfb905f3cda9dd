// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Routes by what the product asks of them. Always read whole, never kept by notices: the kernel replaces
 * routes, and drops those of an interface, without naming the ones that went.
 */

import { isDeepStrictEqual } from 'node:util';
import type { Ifindex } from '@tandem/core/ids';
import { formatAddress } from '@tandem/core/net/ip';
import {
  RT_TABLE_MAIN,
  RTN_UNICAST,
  RTPROT_DHCP,
  RTPROT_KERNEL,
  RTPROT_RA,
  RTPROT_REDIRECT,
} from './constants.ts';
import { prefixLength } from './ip-bytes.ts';
import type { Route } from './route.ts';

const addressBits = 128;

/**
 * RTPROT_* of routes that a host at the other end of the link announced: a router advertisement, by which the
 * kernel makes routes to its sender (RA) and to any prefix, a single address too (KERNEL); a redirect; a DHCP server.
 */
export const learnedProtocols: ReadonlySet<number> = new Set([
  RTPROT_REDIRECT,
  RTPROT_KERNEL,
  RTPROT_RA,
  RTPROT_DHCP,
]);

/** A router's IPv6 link-local address, which says nothing without the interface. */
export interface LinkLocalGateway {
  readonly ifindex: Ifindex;
  readonly address: Uint8Array;
}

/** At most so many: a router advertises itself by as many addresses as it likes. */
const linkLocalGatewaysMax = 256;

export class RouteView {
  readonly #tables: readonly number[];
  readonly #read: (table: number) => Promise<readonly Route[]>;
  #hosts: ReadonlyMap<string, Ifindex> = new Map();
  #waysOut: ReadonlyMap<Ifindex, ReadonlySet<number>> = new Map();
  #gateways: readonly Uint8Array[] = [];
  #linkLocalGateways: readonly LinkLocalGateway[] = [];
  #kept: ReadonlyMap<number, readonly Route[]> = new Map();

  /** Beside what is asked of the main table, `tables` are kept whole. */
  constructor(tables: readonly number[], read: (table: number) => Promise<readonly Route[]>) {
    this.#tables = tables.filter((table) => table !== RT_TABLE_MAIN);
    this.#read = read;
  }

  /**
   * By address text: the interface that the main table's route to this one address (/32, /128) leads
   * through, without a gateway. With several, that of the lowest metric; never one of `learnedProtocols`.
   */
  get hosts(): ReadonlyMap<string, Ifindex> {
    return this.#hosts;
  }

  /**
   * By interface of the main table's default routes and of those through a gateway, both families: who made them,
   * RTPROT_*.
   */
  get waysOut(): ReadonlyMap<Ifindex, ReadonlySet<number>> {
    return this.#waysOut;
  }

  /** Routers of the main table, each once; none that advertised itself, or that a redirect named. */
  get gateways(): readonly Uint8Array[] {
    return this.#gateways;
  }

  /**
   * Routers of the main table by link-local address, each once, those that advertised themselves too. Of more than 256
   * those of the node's own configuration come first.
   */
  get linkLocalGateways(): readonly LinkLocalGateway[] {
    return this.#linkLocalGateways;
  }

  of(table: number): readonly Route[] {
    return this.#kept.get(table) ?? [];
  }

  /** Whether a change of this route is one of the view. */
  concerns(route: Route): boolean {
    if (route.table !== RT_TABLE_MAIN) return this.#tables.includes(route.table);
    return route.destination.bits === addressBits || isWayOut(route);
  }

  /** True: the view is another one now. Rejects as `read` does, and keeps what it has. */
  async read(): Promise<boolean> {
    const main = await this.#read(RT_TABLE_MAIN);
    const kept = new Map<number, readonly Route[]>();
    for (const table of this.#tables) kept.set(table, await this.#read(table));
    const hosts = new Map<string, Ifindex>();
    for (const route of main.filter(isHostRoute).sort(byPriority)) {
      const text = formatAddress(route.destination.address);
      const [ifindex] = route.ifindexes;
      if (ifindex !== undefined && !hosts.has(text)) hosts.set(text, ifindex);
    }
    const waysOut = new Map<Ifindex, Set<number>>();
    for (const { ifindexes, protocol } of main.filter(isWayOut)) {
      for (const ifindex of ifindexes) {
        const makers = waysOut.get(ifindex);
        if (makers === undefined) waysOut.set(ifindex, new Set([protocol]));
        else makers.add(protocol);
      }
    }
    const gateways = new Map<string, Uint8Array>();
    for (const route of main) {
      if (route.protocol === RTPROT_RA || route.protocol === RTPROT_REDIRECT) continue;
      for (const gateway of route.gateways) gateways.set(formatAddress(gateway), gateway);
    }
    const gatewayList = [...gateways.values()];
    const linkLocalGateways = linkLocalGatewaysOf(main);
    const isSame =
      isDeepStrictEqual(hosts, this.#hosts) &&
      isDeepStrictEqual(waysOut, this.#waysOut) &&
      isDeepStrictEqual(gatewayList, this.#gateways) &&
      isDeepStrictEqual(linkLocalGateways, this.#linkLocalGateways) &&
      isDeepStrictEqual(kept, this.#kept);
    this.#hosts = hosts;
    this.#waysOut = waysOut;
    this.#gateways = gatewayList;
    this.#linkLocalGateways = linkLocalGateways;
    this.#kept = kept;
    return !isSame;
  }
}

function isHostRoute(route: Route): boolean {
  const { destination, type, hasGateway, hasSource, ifindexes, protocol } = route;
  return (
    destination.bits === addressBits &&
    type === RTN_UNICAST &&
    !hasGateway &&
    !hasSource &&
    ifindexes.length === 1 &&
    !learnedProtocols.has(protocol)
  );
}

function isWayOut({ destination, type, hasGateway }: Route): boolean {
  return type === RTN_UNICAST && (hasGateway || prefixLength(destination) === 0);
}

function byPriority(left: Route, right: Route): number {
  return left.priority - right.priority;
}

function linkLocalGatewaysOf(routes: readonly Route[]): readonly LinkLocalGateway[] {
  const found = new Map<string, LinkLocalGateway>();
  const isLearned = ({ protocol }: Route): boolean => learnedProtocols.has(protocol);
  const [made, learned] = [routes.filter((each) => !isLearned(each)), routes.filter(isLearned)];
  for (const { gateways, ifindexes } of [...made, ...learned]) {
    for (const address of gateways.filter(isLinkLocal6)) {
      for (const ifindex of ifindexes) {
        if (found.size === linkLocalGatewaysMax) return [...found.values()];
        found.set(`${ifindex} ${formatAddress(address)}`, { ifindex, address });
      }
    }
  }
  return [...found.values()];
}

/** In fe80::/10 (RFC 4291, 2.5.6). */
function isLinkLocal6(address: Uint8Array): boolean {
  return address[0] === 0xfe && ((address[1] ?? 0) & 0xc0) === 0x80;
}
