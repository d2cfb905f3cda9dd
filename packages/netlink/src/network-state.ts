// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The node's interfaces, addresses, routes, rules and neighbours: a copy of what the kernel has, read by kind
 * and kept by its notices.
 */

import { isDeepStrictEqual } from 'node:util';
import type { Ifindex } from '@tandem/core/ids';
import { formatAddress, isIpv4 } from '@tandem/core/net/ip';
import * as rt from './constants.ts';
import { decodeAddress, type InterfaceAddress } from './interface-address.ts';
import { decodeLink, type Link } from './link.ts';
import type { NetlinkMessage } from './message.ts';
import {
  decodeForwarding,
  decodeNeighbor,
  type ForwardingEntry,
  type Neighbor,
} from './neighbor.ts';
import { decodeRoute } from './route.ts';
import { RouteView } from './route-view.ts';
import type { Rtnetlink } from './rtnetlink.ts';
import type { Rule } from './rule.ts';
import { TrackedTable } from './tracked-table.ts';

export const networkKinds = [
  'links',
  'addresses',
  'routes',
  'rules',
  'neighbors',
  'forwarding',
] as const;
export type NetworkKind = (typeof networkKinds)[number];

/** Effects of a notice on the copy. */
export interface NoticeEffects {
  /** The copy of this kind is another one now. */
  readonly changed: (kind: NetworkKind) => void;
  /** This kind has to be read again. */
  readonly stale: (kind: NetworkKind) => void;
}

export class NetworkState {
  readonly #rtnetlink: Rtnetlink;
  readonly #effects: NoticeEffects;
  readonly #links: TrackedTable<Link>;
  readonly #addresses: TrackedTable<InterfaceAddress>;
  readonly #neighbors: TrackedTable<Neighbor>;
  readonly #forwarding: TrackedTable<ForwardingEntry>;
  readonly #routes: RouteView;
  #rules: readonly Rule[] = [];

  constructor(rtnetlink: Rtnetlink, tables: readonly number[], effects: NoticeEffects) {
    this.#rtnetlink = rtnetlink;
    this.#effects = effects;
    this.#links = new TrackedTable({
      keyOf: ({ ifindex }) => ifindex,
      isSame: isDeepStrictEqual,
      read: () => rtnetlink.links(),
    });
    this.#addresses = new TrackedTable({
      keyOf: ({ ifindex, address, peer, prefixLength }) =>
        `${ifindex} ${formatAddress(address)} ${formatAddress(peer)}/${prefixLength}`,
      isSame: isDeepStrictEqual,
      read: () => rtnetlink.addresses(),
    });
    this.#neighbors = new TrackedTable({
      keyOf: ({ ifindex, address }) => neighborKey(ifindex, address),
      // Its state changes all the time. What counts is the hardware address, and that nothing changes it.
      isSame: (left, right) => isSameMac(left.mac, right.mac) && isFixed(left) === isFixed(right),
      read: () => rtnetlink.neighbors(),
    });
    this.#forwarding = new TrackedTable({
      keyOf: ({ bridge, mac, vlan }) => forwardingKey(bridge, mac, vlan),
      isSame: (left, right) =>
        left.port === right.port && left.state === right.state && left.flags === right.flags,
      read: () => rtnetlink.forwarding(),
    });
    this.#routes = new RouteView(tables, (table) => rtnetlink.routes(table));
  }

  /** By index. */
  get links(): ReadonlyMap<Ifindex, Link> {
    return this.#links.entries as ReadonlyMap<Ifindex, Link>;
  }

  linkByName(name: string): Link | undefined {
    for (const link of this.links.values()) if (link.name === name) return link;
    return undefined;
  }

  /** Interfaces here whose peer is in the namespace of this number; see `Rtnetlink.netnsId`. */
  linksOfNetns(id: number): readonly Link[] {
    return [...this.links.values()].filter(({ linkNetnsId }) => linkNetnsId === id);
  }

  get addresses(): Iterable<InterfaceAddress> {
    return this.#addresses.entries.values();
  }

  get routes(): RouteView {
    return this.#routes;
  }

  /** In the order in which they are asked. */
  get rules(): readonly Rule[] {
    return this.#rules;
  }

  get neighbors(): Iterable<Neighbor> {
    return this.#neighbors.entries.values();
  }

  neighbor(ifindex: Ifindex, address: Uint8Array): Neighbor | undefined {
    return this.#neighbors.entries.get(neighborKey(ifindex, address));
  }

  get forwarding(): Iterable<ForwardingEntry> {
    return this.#forwarding.entries.values();
  }

  forwardingEntry(bridge: Ifindex, mac: Uint8Array, vlan = 0): ForwardingEntry | undefined {
    return this.#forwarding.entries.get(forwardingKey(bridge, mac, vlan));
  }

  /** True: the copy is another one now. One read of a kind at a time. @throws NetlinkError: it stays */
  read(kind: NetworkKind): Promise<boolean> {
    switch (kind) {
      case 'links':
        return this.#links.read();
      case 'addresses':
        return this.#addresses.read();
      case 'routes':
        return this.#routes.read();
      case 'rules':
        return this.#readRules();
      case 'neighbors':
        return this.#neighbors.read();
      case 'forwarding':
        return this.#forwarding.read();
    }
  }

  onNotice({ type, payload }: NetlinkMessage): void {
    switch (type) {
      case rt.RTM_NEWLINK:
      case rt.RTM_DELLINK:
        this.#onLink(payload, type === rt.RTM_DELLINK);
        break;
      case rt.RTM_NEWADDR:
      case rt.RTM_DELADDR:
        this.#onAddress(payload, type === rt.RTM_DELADDR);
        break;
      case rt.RTM_NEWNEIGH:
      case rt.RTM_DELNEIGH:
        this.#onNeighbor(payload, type === rt.RTM_DELNEIGH);
        break;
      case rt.RTM_NEWROUTE:
      case rt.RTM_DELROUTE:
        this.#onRoute(payload);
        break;
      case rt.RTM_NEWRULE:
      case rt.RTM_DELRULE:
        this.#effects.stale('rules');
        break;
      case rt.RTM_NEWNSID:
        // An interface gets the number of its peer's namespace without a notice of its own.
        if (this.#hasUnplacedPeer()) this.#effects.stale('links');
        break;
      case rt.RTM_DELNSID:
        this.#effects.stale('links');
        break;
    }
  }

  #onLink(payload: Uint8Array, isGone: boolean): void {
    const link = decodeLink(payload);
    if (link === null) return;
    const known = this.links.get(link.ifindex);
    if (this.#links.apply(link, isGone)) this.#effects.changed('links');
    if (isGone && this.#hasPeer(link.ifindex)) this.#effects.stale('links');
    if (isGone || known?.isUp !== link.isUp) this.#effects.stale('routes');
  }

  /** It left for another namespace, perhaps, and its peer has another `link` now. */
  #hasPeer(ifindex: Ifindex): boolean {
    for (const { link, linkNetnsId } of this.links.values()) {
      if (link === ifindex && linkNetnsId === null) return true;
    }
    return false;
  }

  /** An interface has its peer, or its lower device, in a namespace whose number is not known yet. */
  #hasUnplacedPeer(): boolean {
    for (const { ifindex, kind, link, linkNetnsId } of this.links.values()) {
      if (link === 0 || linkNetnsId !== null) continue;
      const peer = this.links.get(link);
      if (kind === 'veth' ? peer?.link !== ifindex : peer === undefined) return true;
    }
    return false;
  }

  #onAddress(payload: Uint8Array, isGone: boolean): void {
    const address = decodeAddress(payload);
    if (address === null) return;
    if (this.#addresses.apply(address, isGone)) this.#effects.changed('addresses');
    if (isGone && isIpv4(address.address)) this.#effects.stale('routes');
  }

  #onNeighbor(payload: Uint8Array, isGone: boolean): void {
    const neighbor = decodeNeighbor(payload);
    if (neighbor !== null) {
      if (this.#neighbors.apply(neighbor, isGone)) this.#effects.changed('neighbors');
      return;
    }
    const entry = decodeForwarding(payload);
    if (entry !== null && this.#forwarding.apply(entry, isGone))
      this.#effects.changed('forwarding');
  }

  #onRoute(payload: Uint8Array): void {
    const route = decodeRoute(payload);
    if (route !== null && this.#routes.concerns(route)) this.#effects.stale('routes');
  }

  async #readRules(): Promise<boolean> {
    const rules = await this.#rtnetlink.rules();
    const isChanged = !isDeepStrictEqual(rules, this.#rules);
    this.#rules = rules;
    return isChanged;
  }
}

function isSameMac(left: Uint8Array, right: Uint8Array): boolean {
  return Buffer.compare(left, right) === 0;
}

function isFixed({ state }: Neighbor): boolean {
  return (state & rt.NUD_PERMANENT) !== 0;
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

function neighborKey(ifindex: Ifindex, address: Uint8Array): string {
  return `${ifindex} ${hex(address)}`;
}

function forwardingKey(bridge: number, mac: Uint8Array, vlan: number): string {
  return `${bridge} ${hex(mac)} ${vlan}`;
}
