// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The addresses of the node's own interfaces: entity host. An IPv4 address of an interface that is down is
 * local all the same, and NodeLocal DNSCache leaves its interface down. Node.js lists only interfaces that
 * run, at no cost; the others are asked of `ip`, every few seconds.
 */

import { networkInterfaces } from 'node:os';
import { parseAddress } from '@tandem/core/net/ip';
import { run } from './command.ts';

/** Holds every ClusterIP with kube-proxy in IPVS mode: these are addresses of Services, nobody listens there. */
const ipvsInterface = 'kube-ipvs0';

interface InterfaceJson {
  readonly ifname: string;
  readonly addr_info?: readonly { readonly local?: string; readonly scope?: string }[];
}

export class LocalAddresses {
  /** Texts, as of the last `refresh`. */
  #refreshed: readonly string[] = [];

  /** Looks at all interfaces. @throws TandemError TANDEM_COMMAND: what was known stays */
  async refresh(): Promise<void> {
    const text = await run('ip', ['-json', 'address', 'show']);
    const interfaces = JSON.parse(text) as readonly InterfaceJson[];
    this.#refreshed = interfaces
      .filter(({ ifname }) => ifname !== ipvsInterface)
      .flatMap(({ addr_info = [] }) => addr_info)
      .flatMap(({ local, scope }) =>
        local === undefined || isLeftOut(local, scope === 'link') ? [] : [local],
      );
  }

  /**
   * Of interfaces that run, as they are now; of all, as of the last `refresh`. So an address counts as the
   * node's a few seconds too long rather than too short: as one of the world it could be learned.
   */
  get(): readonly Uint8Array[] {
    const running = Object.entries(networkInterfaces())
      .filter(([name]) => name !== ipvsInterface)
      .flatMap(([, addresses]) => addresses ?? [])
      .filter((each) => !isLeftOut(each.address, each.family === 'IPv6' && each.scopeid !== 0))
      .map(({ address }) => address);
    return [...new Set([...running, ...this.#refreshed])]
      .map((text) => parseAddress(text))
      .filter((address) => address !== null);
  }
}

/** IPv6 of scope link: each veth has such an address, so a pod that comes or goes would be a policy change. */
function isLeftOut(text: string, isLinkScope: boolean): boolean {
  return text.includes(':') && isLinkScope;
}
