// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** br_netfilter: netfilter, and so `judge`, sees what a bridge switches only where it is on. */

import type { Link } from '@tandem/netlink/link';

export interface BridgeFamily {
  readonly name: 'ipv4' | 'ipv6';
  readonly what: string;
  readonly sysctl: string;
  readonly path: string;
}

export const bridgeFamilies: readonly BridgeFamily[] = [
  {
    name: 'ipv4',
    what: 'IPv4',
    sysctl: 'net.bridge.bridge-nf-call-iptables',
    path: '/proc/sys/net/bridge/bridge-nf-call-iptables',
  },
  {
    name: 'ipv6',
    what: 'IPv6',
    sysctl: 'net.bridge.bridge-nf-call-ip6tables',
    path: '/proc/sys/net/bridge/bridge-nf-call-ip6tables',
  },
];

/** Names of bridges on which netfilter does not see a family. `setting`: of the sysctl; null: there is none. */
export function unseenBridges(
  { name }: BridgeFamily,
  bridges: readonly Pick<Link, 'name' | 'bridgeNetfilter'>[],
  setting: string | null,
): readonly string[] {
  if (setting === '1') return [];
  return bridges
    .filter(({ bridgeNetfilter }) => setting === null || !bridgeNetfilter[name])
    .map((bridge) => bridge.name);
}
