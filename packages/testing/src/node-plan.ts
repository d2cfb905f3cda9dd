// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Plan of a test node: names, addresses, routes. The same in every node, since each lives in namespaces of its own.
 *
 *   pods (ptp) ── veth, /32, gateway 169.254.1.1, fe80::1 ──┐
 *   pods (bridge) ── cni0 10.1.2.1/24, fd00:2::1/64 ────────┤ node ── up0 192.168.50.0/24 ── remote node, its pod
 *                                     node-local addresses ─┘      └─ up1 192.168.60.0/24 ── upstream ("internet")
 */

import type { ServiceSpec } from './kube-proxy.ts';

export const plan = {
  podCidr4: '10.1.0.0/16',
  podCidr6: 'fd00:1::/32',
  ptpGateway4: '169.254.1.1',
  ptpGateway6: 'fe80::1',
  bridge: 'cni0',
  /** Fixed, or the bridge takes the lowest MAC of its ports and changes it as pods come and go. */
  bridgeMac: '02:00:00:00:c0:01',
  bridgeGateway4: '10.1.2.1',
  bridgeGateway6: 'fd00:1:2::1',
  nodeLocal: 'nodelocaldns',
  remoteUplink: 'up0',
  node4: '192.168.50.1',
  node6: 'fd00:50::1',
  remoteNode4: '192.168.50.2',
  remoteNode6: 'fd00:50::2',
  remotePodCidr4: '10.1.1.0/24',
  remotePodCidr6: 'fd00:1:1::/64',
  remotePod4: '10.1.1.11',
  remotePod6: 'fd00:1:1::11',
  upstreamUplink: 'up1',
  nodeUpstream4: '192.168.60.1',
  nodeUpstream6: 'fd00:60::1',
  upstream4: '192.168.60.2',
  upstream6: 'fd00:60::2',
  /** Every address of these prefixes is the upstream's own, and servers on the wildcard answer there. */
  upstreamPrefixes4: ['203.0.113.0/24', '198.18.0.0/15', '198.51.100.0/24'],
  upstreamPrefixes6: ['2001:db8::/32'],
} as const;

export interface PodSpec {
  /** At most 10 characters: the node's end of the veth is "pod-<name>". */
  readonly name: string;
  /** Default ptp. */
  readonly kind?: 'ptp' | 'bridge';
  /** Default: 10.1.0.11 and on (ptp), 10.1.2.11 and on (bridge). `null`: no address of the family. */
  readonly ipv4?: string | null;
  /** Default: fd00:1::11 and on (ptp), fd00:1:2::11 and on (bridge). */
  readonly ipv6?: string | null;
}

export interface NodeLocalAddress {
  readonly address: string;
  /** As NodeLocal DNSCache does for its addresses: no conntrack, so no service translation. */
  readonly noTrack?: boolean;
}

export interface NodeSpec {
  /** Part of the namespaces' names. */
  readonly name?: string;
  readonly pods: readonly PodSpec[];
  readonly services?: readonly ServiceSpec[];
  /** Default "iptables". "none": no rule at all, so conntrack may be off. */
  readonly kubeProxy?: 'iptables' | 'nftables' | 'none';
  /** Addresses of a node-local cache, such as 169.254.20.10 or a ClusterIP: IPv4 on an interface that is down. */
  readonly nodeLocal?: readonly NodeLocalAddress[];
  /** net.ipv4.conf.*.rp_filter of the node; default 0. */
  readonly reversePathFilter?: 0 | 1 | 2;
  /** net.ipv4.conf.*.src_valid_mark of the node; default 0, Tailscale and NetBird set 1. */
  readonly srcValidMark?: 0 | 1;
  /** bridge-nf-call-iptables and -ip6tables of the node; default 1. */
  readonly bridgeNetfilter?: 0 | 1;
}

/** A pod with its addresses settled. */
export interface PodPlan {
  readonly name: string;
  readonly kind: 'ptp' | 'bridge';
  readonly ipv4: string | null;
  readonly ipv6: string | null;
  /** The node's end of the veth; the pod's end is eth0. */
  readonly hostInterface: string;
}

/** Settles defaults; throws on names that collide or are too long for an interface. */
export function planPods(pods: readonly PodSpec[]): PodPlan[] {
  const seen = new Set<string>();
  const counts = { ptp: 10, bridge: 10 };
  return pods.map(({ name, kind = 'ptp', ipv4, ipv6 }) => {
    if (!/^[a-z0-9-]{1,10}$/.test(name)) throw new TypeError(`pod name ${name}`);
    if (seen.has(name)) throw new TypeError(`two pods named ${name}`);
    seen.add(name);
    const number = ++counts[kind];
    const default4 = kind === 'ptp' ? `10.1.0.${number}` : `10.1.2.${number}`;
    const default6 = kind === 'ptp' ? `fd00:1::${number}` : `fd00:1:2::${number}`;
    return {
      name,
      kind,
      ipv4: ipv4 === undefined ? default4 : ipv4,
      ipv6: ipv6 === undefined ? default6 : ipv6,
      hostInterface: `pod-${name}`,
    };
  });
}

/** `ip` commands inside the node for a pod's end there. */
export function hostSideCommands(pod: PodPlan): string[] {
  const device = pod.hostInterface;
  if (pod.kind === 'bridge') {
    return [
      `link set ${device} master ${plan.bridge} up`,
      `link set ${device} type bridge_slave hairpin on`,
    ];
  }
  return [
    `link set ${device} up`,
    `addr add ${plan.ptpGateway4}/32 dev ${device}`,
    `addr add ${plan.ptpGateway6}/64 dev ${device} nodad`,
    ...(pod.ipv4 === null ? [] : [`route add ${pod.ipv4} dev ${device}`]),
    ...(pod.ipv6 === null ? [] : [`route add ${pod.ipv6} dev ${device}`]),
  ];
}

/** `ip` commands inside the pod. */
export function podSideCommands(pod: PodPlan): string[] {
  const commands = ['link set eth0 up'];
  const isBridge = pod.kind === 'bridge';
  if (pod.ipv4 !== null) {
    commands.push(`addr add ${pod.ipv4}/${isBridge ? 24 : 32} dev eth0`);
    if (!isBridge) commands.push(`route add ${plan.ptpGateway4} dev eth0 scope link`);
    const gateway = isBridge ? plan.bridgeGateway4 : plan.ptpGateway4;
    commands.push(`route add default via ${gateway} dev eth0 src ${pod.ipv4}`);
  }
  if (pod.ipv6 !== null) {
    const gateway = isBridge ? plan.bridgeGateway6 : plan.ptpGateway6;
    commands.push(
      `addr add ${pod.ipv6}/${isBridge ? 64 : 128} dev eth0 nodad`,
      `route add default via ${gateway} dev eth0`,
    );
  }
  return commands;
}

/** Addresses are usable at once: no duplicate address detection. */
export const quietIpv6: Readonly<Record<string, number>> = {
  'net.ipv6.conf.all.accept_dad': 0,
  'net.ipv6.conf.default.accept_dad': 0,
};

/** Sysctls of the node's namespace. */
export function nodeSysctls(spec: NodeSpec): Record<string, number> {
  const reversePathFilter = spec.reversePathFilter ?? 0;
  const srcValidMark = spec.srcValidMark ?? 0;
  return {
    'net.ipv4.ip_forward': 1,
    'net.ipv6.conf.all.forwarding': 1,
    'net.ipv6.conf.default.forwarding': 1,
    'net.ipv4.conf.all.rp_filter': reversePathFilter,
    'net.ipv4.conf.default.rp_filter': reversePathFilter,
    'net.ipv4.conf.all.src_valid_mark': srcValidMark,
    'net.ipv4.conf.default.src_valid_mark': srcValidMark,
    // Without it the node would tell pods to talk to each other directly.
    'net.ipv4.conf.all.send_redirects': 0,
    'net.ipv4.conf.default.send_redirects': 0,
  };
}

/** `ip` commands inside the node, before any link of it is there. */
export function bridgeCommands(spec: NodeSpec): string[] {
  return [
    `link add ${plan.bridge} address ${plan.bridgeMac} type bridge`,
    `link set ${plan.bridge} up`,
    `addr add ${plan.bridgeGateway4}/24 dev ${plan.bridge}`,
    `addr add ${plan.bridgeGateway6}/64 dev ${plan.bridge} nodad`,
    // Never up, as NodeLocal DNSCache leaves its dummy. IPv6 addresses work only on interfaces that are up.
    `link add ${plan.nodeLocal} type bridge`,
    ...(spec.nodeLocal ?? []).map(({ address }) =>
      address.includes(':')
        ? `addr add ${address}/128 dev lo nodad`
        : `addr add ${address}/32 dev ${plan.nodeLocal}`,
    ),
  ];
}

/** `ip` commands inside the node for its link to another namespace. */
export function uplinkCommands(device: string, peer: string, ipv4: string, ipv6: string): string[] {
  return [
    `link add ${device} type veth peer name eth0 netns ${peer}`,
    `link set ${device} up`,
    `addr add ${ipv4}/24 dev ${device}`,
    `addr add ${ipv6}/64 dev ${device} nodad`,
  ];
}

/** `ip` commands inside the remote node. */
export const remoteCommands: readonly string[] = [
  'link set eth0 up',
  `addr add ${plan.remoteNode4}/24 dev eth0`,
  `addr add ${plan.remoteNode6}/64 dev eth0 nodad`,
  `addr add ${plan.remotePod4}/32 dev lo`,
  `addr add ${plan.remotePod6}/128 dev lo nodad`,
  `route add default via ${plan.node4}`,
  `route add default via ${plan.node6}`,
];

/** `ip` commands inside the upstream network. */
export const upstreamCommands: readonly string[] = [
  'link set eth0 up',
  `addr add ${plan.upstream4}/24 dev eth0`,
  `addr add ${plan.upstream6}/64 dev eth0 nodad`,
  ...plan.upstreamPrefixes4.map((prefix) => `route add local ${prefix} dev lo`),
  ...plan.upstreamPrefixes6.map((prefix) => `route add local ${prefix} dev lo`),
  `route add default via ${plan.nodeUpstream4}`,
  `route add default via ${plan.nodeUpstream6}`,
];

/** `ip` commands inside the node, when its neighbours are there. */
export const nodeRoutes: readonly string[] = [
  `route add ${plan.remotePodCidr4} via ${plan.remoteNode4}`,
  `route add ${plan.remotePodCidr6} via ${plan.remoteNode6}`,
  `route add default via ${plan.upstream4}`,
  `route add default via ${plan.upstream6}`,
];
