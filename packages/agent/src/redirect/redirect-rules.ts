// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The nft table that redirects, as text. It is one transaction: packets meet the table of before or this one.
 *
 * Its chains come before kube-proxy's (-100 in both of its forms): the first chain that translates a connection decides.
 * `prerouting` is for pods; `output` is for the DNS members, whose queries for pods would otherwise pass the cache by. Their sockets
 * that are to go past redirects reach Services alone: a DNS rule for the backends names no server behind an address that no Service has.
 * The ingress interface identifies a backend's own traffic, because no pod can choose it; behind a bridge, where all ports are
 * one interface to netfilter, the source address does so too, which `from_pod` has verified. A policy exempts its own
 * backends from its own redirects alone, so that a tenant's policy does not exempt its pods from another's.
 */

import { formatAddress, isIpv4 } from '@tandem/core/net/ip';
import type { Redirect, RedirectBackend } from '@tandem/core/policy/model/redirect';
import { upstreamDirectPriority } from '@tandem/dns-proxy/limits';

export const redirectTable = 'tandem_redirect';
/** Before kube-proxy's chains (NF_IP_PRI_NAT_DST, -100). */
const priority = -110;
const dnsPort = 53;

/** How the traffic of a backend comes in. */
export interface BackendInterface {
  /** Name that netfilter sees: for a bridge port that of the bridge. */
  readonly name: string;
  readonly isBridged: boolean;
}

export interface RedirectRulesInput {
  readonly redirects: readonly Redirect[];
  /** Null: not known yet, so the pod is no backend yet. */
  readonly interfaceOf: (pod: string) => BackendInterface | null;
  /** User ids of the DNS members. */
  readonly memberUids: readonly number[];
}

export interface RedirectRules {
  /** '': nothing is redirected. */
  readonly text: string;
  /** Addresses of pods to which traffic is redirected, or was until they began to terminate, as text. */
  readonly backends: ReadonlySet<string>;
}

interface Used {
  readonly redirect: Redirect;
  readonly backends: readonly RedirectBackend[];
}

export function redirectRules(input: RedirectRulesInput): RedirectRules {
  const used = usedOf(input);
  const backends = new Set(
    input.redirects.flatMap(({ backends: ready, ending }) =>
      [...ready.map(({ address }) => address), ...ending].map((each) => formatAddress(each)),
    ),
  );
  if (used.length === 0) return { text: '', backends };
  const loops = loopsOf(used, input.interfaceOf);
  const chains = used.map((each, index) => chainOf(each, loops.get(each.redirect.subject), index));
  const isAsked = ({ redirect }: Used, isAddress: boolean): boolean =>
    redirect.port === dnsPort && !redirect.isAskedByName && redirect.isAddress === isAddress;
  const text = [
    `table inet ${redirectTable} {}`,
    `delete table inet ${redirectTable}`,
    `table inet ${redirectTable} {`,
    setOf(
      'backends4',
      'ipv4_addr',
      [...backends].filter((each) => !each.includes(':')),
    ),
    setOf(
      'backends6',
      'ipv6_addr',
      [...backends].filter((each) => each.includes(':')),
    ),
    ...[...loops.values()].flatMap(setsOfLoop),
    ...(['4', '6'] as const).flatMap((family) => [
      frontendMap('redirect', family, used, () => true),
      frontendMap('addresses', family, used, (each) => isAsked(each, true)),
      frontendMap('members', family, used, (each) => isAsked(each, false)),
    ]),
    ...chains,
    `  chain prerouting {
    type nat hook prerouting priority ${priority}; policy accept;
    ip daddr . meta l4proto . th dport vmap @redirect4
    ip6 daddr . meta l4proto . th dport vmap @redirect6
  }`,
    `  chain output {
    type nat hook output priority ${priority}; policy accept;
    meta skuid != { ${input.memberUids.join(', ')} } return
    ip daddr . meta l4proto . th dport vmap @addresses4
    ip6 daddr . meta l4proto . th dport vmap @addresses6
    meta priority 0:${upstreamDirectPriority} return
    ip daddr . meta l4proto . th dport vmap @members4
    ip6 daddr . meta l4proto . th dport vmap @members6
  }`,
    '}\n',
  ].join('\n');
  return { text, backends };
}

/** Redirects that have a backend whose own traffic is known from that of others. */
function usedOf({ redirects, interfaceOf }: RedirectRulesInput): readonly Used[] {
  return redirects.flatMap((redirect) => {
    const backends = redirect.backends.filter(({ pod }) => interfaceOf(pod) !== null);
    return backends.length === 0 ? [] : [{ redirect, backends }];
  });
}

function chainOf({ redirect, backends }: Used, loop: Loop | undefined, index: number): string {
  const [first] = backends;
  const isSix = first !== undefined && !isIpv4(first.address);
  const targets = backends.map(
    ({ address, port }, number) => `${number} : ${formatAddress(address)} . ${port}`,
  );
  const l4 = redirect.protocol === 6 ? 'tcp' : 'udp';
  const own = loop === undefined ? [] : rulesOfLoop(loop, isSix ? '6' : '4');
  return `  chain to_${index} {
${own.map((rule) => `    ${rule}\n`).join('')}    meta l4proto ${l4} dnat ${isSix ? 'ip6' : 'ip'} to numgen random mod ${targets.length} map { ${targets.join(', ')} }
  }`;
}

/** How traffic of the pods of one policy comes in: what is theirs is left alone by that policy, and by no other one. */
interface Loop {
  readonly number: number;
  readonly interfaces: Set<string>;
  readonly bridged: Readonly<Record<'4' | '6', Set<string>>>;
}

/** By the subject of the policy. */
function loopsOf(
  used: readonly Used[],
  interfaceOf: RedirectRulesInput['interfaceOf'],
): ReadonlyMap<string, Loop> {
  const loops = new Map<string, Loop>();
  for (const { redirect } of used) {
    const loop = loops.get(redirect.subject) ?? {
      ...{ number: loops.size, interfaces: new Set<string>() },
      bridged: { '4': new Set<string>(), '6': new Set<string>() },
    };
    loops.set(redirect.subject, loop);
    // Those that are no backends yet, or any more, ask the frontend as a cache does that starts or ends.
    for (const { pod, address } of redirect.selected) {
      const at = interfaceOf(pod);
      if (at === null) continue;
      if (!at.isBridged) loop.interfaces.add(`"${at.name}"`);
      else
        loop.bridged[isIpv4(address) ? '4' : '6'].add(`"${at.name}" . ${formatAddress(address)}`);
    }
  }
  return loops;
}

function setsOfLoop({ number, interfaces, bridged }: Loop): readonly string[] {
  return [
    ...(interfaces.size > 0 ? [setOf(`loop_${number}`, 'ifname', [...interfaces])] : []),
    ...(['4', '6'] as const)
      .filter((family) => bridged[family].size > 0)
      .map((family) =>
        setOf(`loop${family}_${number}`, `ifname . ipv${family}_addr`, [...bridged[family]]),
      ),
  ];
}

/** In chain prerouting; what comes by output has no such interface. A packet that returns is not translated here. */
function rulesOfLoop({ number, interfaces, bridged }: Loop, family: '4' | '6'): readonly string[] {
  const source = family === '4' ? 'ip saddr' : 'ip6 saddr';
  return [
    ...(interfaces.size > 0 ? [`iifname @loop_${number} return`] : []),
    ...(bridged[family].size > 0 ? [`iifname . ${source} @loop${family}_${number} return`] : []),
  ];
}

function frontendMap(
  name: 'redirect' | 'addresses' | 'members',
  family: '4' | '6',
  used: readonly Used[],
  isListed: (each: Used) => boolean,
): string {
  const elements = used.flatMap((each, index) => {
    const { address, protocol, port } = each.redirect;
    if ((family === '4') !== isIpv4(address) || !isListed(each)) return [];
    return [
      `${formatAddress(address)} . ${protocol === 6 ? 'tcp' : 'udp'} . ${port} : goto to_${index}`,
    ];
  });
  const type = `ipv${family}_addr . inet_proto . inet_service : verdict`;
  return `  map ${name}${family} { type ${type}; ${elementsOf(elements)}}`;
}

function setOf(name: string, type: string, elements: readonly string[]): string {
  return `  set ${name} { type ${type}; ${elementsOf(elements)}}`;
}

function elementsOf(elements: readonly string[]): string {
  return elements.length === 0 ? '' : `elements = { ${elements.join(', ')} }; `;
}
