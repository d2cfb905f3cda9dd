// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Routes by what the product asks of them. Always read whole, never kept by notices: the kernel replaces
 * routes, and drops those of an interface, without naming the ones that went.
 */

import { isDeepStrictEqual } from 'node:util';
import { formatAddress } from '@tandem/core/net/ip';
import { RT_TABLE_MAIN, RTN_UNICAST } from './constants.ts';
import { prefixLength } from './ip-bytes.ts';
import type { Route } from './route.ts';

const addressBits = 128;

export class RouteView {
  readonly #tables: readonly number[];
  readonly #read: (table: number) => Promise<readonly Route[]>;
  #hosts: ReadonlyMap<string, number> = new Map();
  #uplinks: ReadonlySet<number> = new Set();
  #kept: ReadonlyMap<number, readonly Route[]> = new Map();

  /** Beside what is asked of the main table, `tables` are kept whole. */
  constructor(tables: readonly number[], read: (table: number) => Promise<readonly Route[]>) {
    this.#tables = tables.filter((table) => table !== RT_TABLE_MAIN);
    this.#read = read;
  }

  /**
   * By address text: the interface that the main table's route to this one address (/32, /128) leads
   * through, without a gateway. With several, that of the lowest metric.
   */
  get hosts(): ReadonlyMap<string, number> {
    return this.#hosts;
  }

  /** Interfaces of the main table's default routes and of those through a gateway, both families. */
  get uplinks(): ReadonlySet<number> {
    return this.#uplinks;
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
    const hosts = new Map<string, number>();
    for (const route of main.filter(isHostRoute).sort(byPriority)) {
      const text = formatAddress(route.destination.address);
      const [ifindex] = route.ifindexes;
      if (ifindex !== undefined && !hosts.has(text)) hosts.set(text, ifindex);
    }
    const uplinks = new Set(main.filter(isWayOut).flatMap(({ ifindexes }) => ifindexes));
    const isSame =
      isDeepStrictEqual(hosts, this.#hosts) &&
      isDeepStrictEqual(uplinks, this.#uplinks) &&
      isDeepStrictEqual(kept, this.#kept);
    this.#hosts = hosts;
    this.#uplinks = uplinks;
    this.#kept = kept;
    return !isSame;
  }
}

function isHostRoute(route: Route): boolean {
  const { destination, type, hasGateway, hasSource, ifindexes } = route;
  return (
    destination.bits === addressBits &&
    type === RTN_UNICAST &&
    !hasGateway &&
    !hasSource &&
    ifindexes.length === 1
  );
}

function isWayOut({ destination, type, hasGateway }: Route): boolean {
  return type === RTN_UNICAST && (hasGateway || prefixLength(destination) === 0);
}

function byPriority(left: Route, right: Route): number {
  return left.priority - right.priority;
}
