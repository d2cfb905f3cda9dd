// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The addresses of the node's own interfaces: entity host. An IPv4 address of an interface that is down is
 * local all the same, and NodeLocal DNSCache leaves its interface down. Apart from them the link-local addresses of
 * IPv6 at bridges, which no pod may claim.
 */

import type { Ifindex } from '@tandem/core/ids';
import { formatAddress, isIpv4 } from '@tandem/core/net/ip';
import { IFAPROT_KERNEL_RA, RT_SCOPE_LINK } from '@tandem/netlink/constants';
import type { Link } from '@tandem/netlink/link';
import type { NetworkView } from '@tandem/netlink/network-view';
import { ipvsInterface } from './ipvs.ts';

export class LocalAddresses {
  readonly #view: NetworkView;

  constructor(view: NetworkView) {
    this.#view = view;
  }

  /** Each once. */
  get(): readonly Uint8Array[] {
    const { addresses, links } = this.#view.state;
    const found = new Map<string, Uint8Array>();
    for (const { ifindex, address, scope, protocol, isDuplicate } of addresses) {
      const link = links.get(ifindex);
      // With kube-proxy in IPVS mode it holds every ClusterIP: these are addresses of Services.
      if (isDuplicate || link?.name === ipvsInterface) continue;
      if (protocol === IFAPROT_KERNEL_RA && isPodSide(link)) continue;
      if (isLinkLocal6(address, scope)) continue;
      found.set(formatAddress(address), address);
    }
    return [...found.values()];
  }

  /**
   * IPv6 link-local addresses, each once, of the node and of its routers, where ports of a bridge can claim them: pods share
   * that link. Not those of a pod's own veth: its other end is the pod alone, which by a claim harms only itself, and
   * as each veth has such an address, a pod that comes or goes would be a policy change.
   */
  atBridges(): readonly Uint8Array[] {
    const { addresses, links, routes } = this.#view.state;
    const found = new Map<string, Uint8Array>();
    for (const { ifindex, address, scope, isDuplicate } of addresses) {
      if (isDuplicate || !isLinkLocal6(address, scope)) continue;
      if (isAtBridge(links.get(ifindex), links)) found.set(formatAddress(address), address);
    }
    for (const { ifindex, address } of routes.linkLocalGateways) {
      if (isAtBridge(links.get(ifindex), links)) found.set(formatAddress(address), address);
    }
    return [...found.values()];
  }

  /** Calls `listener` when `get` or `atBridges` gives others; gives the function that ends it. */
  onChange(listener: () => void): () => void {
    const textOf = (addresses: readonly Uint8Array[]): string =>
      addresses
        .map((each) => formatAddress(each))
        .sort()
        .join();
    const texts = (): string => `${textOf(this.get())} ${textOf(this.atBridges())}`;
    let known = texts();
    return this.#view.onChange((kinds) => {
      if (!kinds.has('addresses') && !kinds.has('links') && !kinds.has('routes')) return;
      const now = texts();
      if (now === known) return;
      known = now;
      listener();
    });
  }
}

/**
 * Where a router advertisement may be a pod's, which gives the node an address in a prefix of the pod's choice: from
 * there a host of the world would speak as the node. A packet that is delivered to the node is for the node without it.
 */
const isPodSide = (link: Link | undefined): boolean =>
  link?.kind === 'veth' || link?.kind === 'bridge';

const isLinkLocal6 = (address: Uint8Array, scope: number): boolean =>
  scope === RT_SCOPE_LINK && !isIpv4(address);

/** A bridge, a VLAN or another interface on top of one, or a veth of the node whose other end is a port of one. */
function isAtBridge(link: Link | undefined, links: ReadonlyMap<Ifindex, Link>): boolean {
  if (link === undefined || link.kind === 'bridge') return link !== undefined;
  const lower = link.linkNetnsId === null ? links.get(link.link) : undefined;
  return lower?.kind === 'bridge' || links.get(lower?.master ?? 0)?.kind === 'bridge';
}
