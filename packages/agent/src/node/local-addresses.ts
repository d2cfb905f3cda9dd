// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The addresses of the node's own interfaces: entity host. An IPv4 address of an interface that is down is
 * local all the same, and NodeLocal DNSCache leaves its interface down.
 */

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
      // Each veth has such an address, so a pod that comes or goes would be a policy change.
      if (scope === RT_SCOPE_LINK && !isIpv4(address)) continue;
      found.set(formatAddress(address), address);
    }
    return [...found.values()];
  }

  /** Calls `listener` when `get` gives others; gives the function that ends it. */
  onChange(listener: () => void): () => void {
    const texts = (): string =>
      this.get()
        .map((each) => formatAddress(each))
        .sort()
        .join();
    let known = texts();
    return this.#view.onChange((kinds) => {
      if (!kinds.has('addresses') && !kinds.has('links')) return;
      const now = texts();
      if (now === known) return;
      known = now;
      listener();
    });
  }
}

/**
 * Where a router advertisement may be a pod's, which gives the node an address in a prefix of the pod's choice: from
 * there somebody of the world would speak as the node. What is delivered to the node is for the node without it.
 */
const isPodSide = (link: Link | undefined): boolean =>
  link?.kind === 'veth' || link?.kind === 'bridge';
