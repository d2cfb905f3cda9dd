// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The node's interfaces, addresses, routes, rules and neighbours: read once, or changed. */

import type { Ifindex, NetnsId } from '@tandem/core/ids';
import type { Prefix } from '@tandem/core/net/ip';
import { formatAddress, formatPrefix, hostPrefix } from '@tandem/core/net/ip';
import { netlinkProtocol } from '@tandem/dns-sockets/netlink-socket';
import { NetlinkConnection, type NetlinkRequest } from './connection.ts';
import {
  AF_BRIDGE,
  AF_INET,
  AF_UNSPEC,
  EHOSTUNREACH,
  ENETUNREACH,
  ENODEV,
  ENOENT,
  ESRCH,
  IFF_UP,
  NLM_F_CREATE,
  NLM_F_EXCL,
  NLM_F_REPLACE,
  NTF_USE,
  RTEXT_FILTER_SKIP_STATS,
  RTM_DELNEIGH,
  RTM_DELROUTE,
  RTM_DELRULE,
  RTM_GETADDR,
  RTM_GETLINK,
  RTM_GETNEIGH,
  RTM_GETNSID,
  RTM_GETQDISC,
  RTM_GETROUTE,
  RTM_GETRULE,
  RTM_NEWLINK,
  RTM_NEWNEIGH,
  RTM_NEWROUTE,
  RTM_NEWRULE,
  RTPROT_TANDEM,
} from './constants.ts';
import { encodeMessage } from './encode.ts';
import { NetlinkError } from './errors.ts';
import { addressFormat, decodeAddress, type InterfaceAddress } from './interface-address.ts';
import { familyOf, prefixLength, toKernel } from './ip-bytes.ts';
import { decodeLink, type Link, linkFormat } from './link.ts';
import { decodeLinkCounts, type LinkCounts } from './link-counts.ts';
import type { NetlinkMessage } from './message.ts';
import {
  decodeForwarding,
  decodeNeighbor,
  encodeForwardingKey,
  encodeNeighborKey,
  encodePermanentNeighbor,
  encodeStickyForwarding,
  type ForwardingEntry,
  type Neighbor,
  neighborFormat,
} from './neighbor.ts';
import { decodeNetnsId, encodeNetnsQuery } from './netns-id.ts';
import { decodeQdisc, type Qdisc, qdiscFormat } from './qdisc.ts';
import { decodeRoute, encodeRoute, type Route, type RouteSpec, routeFormat } from './route.ts';
import { decodeRule, encodeRule, type Rule, type RuleSpec, ruleFormat } from './rule.ts';

export interface LinkChange {
  readonly isUp?: boolean;
  /** 0: none. */
  readonly master?: number;
  readonly isProtoDown?: boolean;
  readonly mac?: Uint8Array;
}

/** Every method rejects with a NetlinkError; its message has the kernel's reason. */
export class Rtnetlink implements Disposable {
  readonly connection: NetlinkConnection = new NetlinkConnection(netlinkProtocol.ROUTE);

  links(): Promise<Link[]> {
    const payload = encodeMessage(linkFormat, {}, { extMask: RTEXT_FILTER_SKIP_STATS });
    return this.#dump('list interfaces', RTM_GETLINK, payload, decodeLink);
  }

  /** Packet counters of all interfaces. */
  linkCounts(): Promise<LinkCounts[]> {
    const payload = encodeMessage(linkFormat, {}, {});
    return this.#dump('count packets of interfaces', RTM_GETLINK, payload, decodeLinkCounts);
  }

  /** Queueing disciplines of all interfaces, but for those that the kernel sets by itself and does not list. */
  qdiscs(): Promise<Qdisc[]> {
    const payload = encodeMessage(qdiscFormat, {}, {});
    return this.#dump('list queueing disciplines', RTM_GETQDISC, payload, decodeQdisc);
  }

  /** Null: there is none. */
  async link(ifindex: Ifindex): Promise<Link | null> {
    const payload = encodeMessage(linkFormat, { ifindex }, { extMask: RTEXT_FILTER_SKIP_STATS });
    return this.#get(`read interface ${ifindex}`, RTM_GETLINK, payload, decodeLink);
  }

  /**
   * The link with this index in another network namespace, named by the number that this namespace has for it. Needs
   * CAP_NET_ADMIN there. Null: it does not exist.
   */
  async linkIn(netnsId: NetnsId, ifindex: Ifindex): Promise<Link | null> {
    const payload = encodeMessage(
      linkFormat,
      { ifindex },
      { extMask: RTEXT_FILTER_SKIP_STATS, targetNetnsId: netnsId },
    );
    const attempt = `read interface ${ifindex} of network namespace ${netnsId}`;
    return this.#get(attempt, RTM_GETLINK, payload, decodeLink);
  }

  addresses(): Promise<InterfaceAddress[]> {
    const payload = encodeMessage(addressFormat, {}, {});
    return this.#dump('list addresses', RTM_GETADDR, payload, decodeAddress);
  }

  /** Routes of one table, both families; an unused table is empty. */
  routes(table: number): Promise<Route[]> {
    const payload = encodeMessage(routeFormat, {}, { table });
    const decode = (bytes: Uint8Array): Route | null => {
      const route = decodeRoute(bytes);
      return route?.table === table ? route : null;
    };
    return this.#dump(`list routes of table ${table}`, RTM_GETROUTE, payload, decode);
  }

  /** The route that a packet to `address` takes; null: none. */
  async routeTo(address: Uint8Array): Promise<Route | null> {
    const payload = encodeMessage(
      routeFormat,
      { family: familyOf(address), destinationLength: prefixLength(hostPrefix(address)) },
      { destination: toKernel(address) },
    );
    const attempt = `find the route to ${formatAddress(address)}`;
    return this.#get(attempt, RTM_GETROUTE, payload, decodeRoute, [ENETUNREACH, EHOSTUNREACH]);
  }

  rules(): Promise<Rule[]> {
    const payload = encodeMessage(ruleFormat, {}, {});
    return this.#dump('list routing rules', RTM_GETRULE, payload, decodeRule);
  }

  neighbors(): Promise<Neighbor[]> {
    const payload = encodeMessage(neighborFormat, { family: AF_UNSPEC }, {});
    return this.#dump('list neighbours', RTM_GETNEIGH, payload, decodeNeighbor);
  }

  /** Forwarding entries of all bridges. */
  forwarding(): Promise<ForwardingEntry[]> {
    const payload = encodeMessage(neighborFormat, { family: AF_BRIDGE }, {});
    return this.#dump('list forwarding entries', RTM_GETNEIGH, payload, decodeForwarding);
  }

  /**
   * This namespace's number for the network namespace of a file descriptor; null: it has none, so no
   * interface here has its peer there.
   */
  async netnsId(fd: number): Promise<number | null> {
    const payload = encodeNetnsQuery(fd);
    return this.#get(`find the id of network namespace ${fd}`, RTM_GETNSID, payload, decodeNetnsId);
  }

  async changeLink(ifindex: Ifindex, change: LinkChange): Promise<void> {
    const { isUp, master, isProtoDown, mac } = change;
    const payload = encodeMessage(
      linkFormat,
      {
        ifindex,
        ...(isUp === undefined ? {} : { flags: isUp ? IFF_UP : 0, change: IFF_UP }),
      },
      {
        ...(mac === undefined ? {} : { mac }),
        ...(master === undefined ? {} : { master }),
        ...(isProtoDown === undefined ? {} : { protoDown: isProtoDown ? 1 : 0 }),
      },
    );
    await this.#change(`change interface ${ifindex}`, RTM_NEWLINK, 0, payload);
  }

  async replaceRoute(route: RouteSpec): Promise<void> {
    const attempt = `make the route to ${formatPrefix(route.destination)} in table ${route.table}`;
    await this.#change(attempt, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, encodeRoute(route));
  }

  /** False: it was not there. */
  deleteRoute(route: RouteSpec): Promise<boolean> {
    const attempt = `delete the route to ${formatPrefix(route.destination)} in table ${route.table}`;
    return this.#delete(attempt, RTM_DELROUTE, encodeRoute(route, true));
  }

  /** @throws NetlinkError EEXIST: it is there */
  async addRule(rule: RuleSpec): Promise<void> {
    const flags = NLM_F_CREATE | NLM_F_EXCL;
    await this.#change(
      `add ${describeRule(rule)}`,
      RTM_NEWRULE,
      flags,
      encodeRule(rule, RTPROT_TANDEM),
    );
  }

  /** False: it was not there. */
  deleteRule(rule: RuleSpec): Promise<boolean> {
    return this.#delete(`delete ${describeRule(rule)}`, RTM_DELRULE, encodeRule(rule));
  }

  /** NUD_PERMANENT: no packet changes it, and the kernel sends no request for it. */
  async setPermanentNeighbor(
    ifindex: Ifindex,
    address: Uint8Array,
    mac: Uint8Array,
  ): Promise<void> {
    const payload = encodePermanentNeighbor(ifindex, address, mac);
    const attempt = `make the neighbour ${formatAddress(address)} of interface ${ifindex} permanent`;
    await this.#change(attempt, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, payload);
  }

  /** False: it was not there. */
  deleteNeighbor(ifindex: Ifindex, address: Uint8Array): Promise<boolean> {
    const attempt = `delete the neighbour ${formatAddress(address)} of interface ${ifindex}`;
    return this.#delete(attempt, RTM_DELNEIGH, encodeNeighborKey(ifindex, address));
  }

  /** Makes the kernel ask who has the address, as a packet to it would. */
  async probeNeighbor(ifindex: Ifindex, address: Uint8Array): Promise<void> {
    const payload = encodeNeighborKey(ifindex, address, NTF_USE);
    const attempt = `ask for the neighbour ${formatAddress(address)} of interface ${ifindex}`;
    await this.#change(attempt, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, payload);
  }

  /** The bridge that `port` belongs to sends to the address through it, whatever frames say. */
  async setStickyForwarding(port: Ifindex, mac: Uint8Array): Promise<void> {
    const payload = encodeStickyForwarding(port, mac);
    const attempt = `make the forwarding entry of port ${port} sticky`;
    await this.#change(attempt, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, payload);
  }

  /** False: it was not there. */
  deleteForwarding(port: Ifindex, mac: Uint8Array): Promise<boolean> {
    const attempt = `delete the forwarding entry of port ${port}`;
    return this.#delete(attempt, RTM_DELNEIGH, encodeForwardingKey(port, mac));
  }

  close(): void {
    this.connection.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #dump<T>(
    attempt: string,
    type: number,
    payload: Uint8Array,
    decode: (payload: Uint8Array) => T | null,
  ): Promise<T[]> {
    return this.connection.dump({ attempt, type, payload }, (message) => decode(message.payload));
  }

  /** One object; null where the kernel says with one of these errors that there is none. */
  async #get<T>(
    attempt: string,
    type: number,
    payload: Uint8Array,
    decode: (payload: Uint8Array) => T | null,
    absent: readonly number[] = [ENODEV],
  ): Promise<T | null> {
    const [message] = await this.#unless(absent, { attempt, type, payload });
    return message === undefined ? null : decode(message.payload);
  }

  async #change(attempt: string, type: number, flags: number, payload: Uint8Array): Promise<void> {
    await this.connection.request({ attempt, type, flags, payload });
  }

  async #delete(attempt: string, type: number, payload: Uint8Array): Promise<boolean> {
    let isDeleted = true;
    try {
      await this.connection.request({ attempt, type, payload });
    } catch (error) {
      if (!(error instanceof NetlinkError) || ![ENOENT, ESRCH].includes(error.errno)) throw error;
      isDeleted = false;
    }
    return isDeleted;
  }

  async #unless(
    errnos: readonly number[],
    request: NetlinkRequest,
  ): Promise<readonly NetlinkMessage[]> {
    try {
      return await this.connection.request(request);
    } catch (error) {
      if (error instanceof NetlinkError && errnos.includes(error.errno)) return [];
      throw error;
    }
  }
}

/** The destination that all packets of a family have. */
export function everyDestination(family: 'IPv4' | 'IPv6'): Prefix {
  const address = new Uint8Array(16);
  if (family === 'IPv4') address.fill(0xff, 10, 12);
  return { address, bits: family === 'IPv4' ? 96 : 0 };
}

function describeRule({ family, priority, table }: RuleSpec): string {
  const name = family === AF_INET ? 'IPv4' : 'IPv6';
  return `the ${name} routing rule ${priority} to table ${table}`;
}
