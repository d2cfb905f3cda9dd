// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * kube-proxy's rules for a list of Services, in the shape it writes them: the iptables form as text for
 * iptables-restore, the nftables form as text for nft. Pure; `netns.ts` applies them.
 */

import { createHash } from 'node:crypto';

export interface Backend {
  readonly address: string;
  readonly port: number;
}

export interface ServiceSpec {
  readonly clusterIp: string;
  readonly port: number;
  readonly protocol: 'tcp' | 'udp';
  /** Backends of the family of `clusterIp`. Empty: connections are rejected, as kube-proxy does. */
  readonly backends: readonly Backend[];
  readonly nodePort?: number;
}

export type Family = 4 | 6;

export function familyOf(address: string): Family {
  return address.includes(':') ? 6 : 4;
}

export interface Masquerade {
  /** Pods' range, in the family's text form; traffic from it to outside is masqueraded. */
  readonly podCidr: string;
  readonly uplink: string;
}

/** Input for `iptables-restore` (family 4) or `ip6tables-restore` (6). */
export function iptablesRules(
  services: readonly ServiceSpec[],
  family: Family,
  masquerade: Masquerade,
): string {
  const own = services.filter(({ clusterIp }) => familyOf(clusterIp) === family);
  const served = own.filter(({ backends }) => backends.length > 0);
  const chains = served.flatMap((service) => {
    const id = serviceId(service);
    const endpoints = service.backends.map((_, i) => `KUBE-SEP-${id}${i}`);
    return [`KUBE-SVC-${id}`, ...endpoints, ...(service.nodePort ? [`KUBE-EXT-${id}`] : [])];
  });
  const fixed = ['KUBE-SERVICES', 'KUBE-NODEPORTS', 'KUBE-MARK-MASQ', 'KUBE-POSTROUTING'];
  const bits = family === 4 ? 32 : 128;
  return [
    '*filter',
    ':KUBE-FORWARD - [0:0]',
    ':KUBE-SERVICES - [0:0]',
    '-A FORWARD -j KUBE-FORWARD',
    '-A FORWARD -m conntrack --ctstate NEW -j KUBE-SERVICES',
    '-A OUTPUT -m conntrack --ctstate NEW -j KUBE-SERVICES',
    '-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP',
    '-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT',
    '-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
    ...own
      .filter(({ backends }) => backends.length === 0)
      .map((service) => `-A KUBE-SERVICES ${match(service, bits)} -j REJECT`),
    'COMMIT',
    '*nat',
    ...[...fixed, ...chains].map((chain) => `:${chain} - [0:0]`),
    '-A PREROUTING -j KUBE-SERVICES',
    '-A OUTPUT -j KUBE-SERVICES',
    '-A POSTROUTING -j KUBE-POSTROUTING',
    '-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000',
    '-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN',
    '-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000',
    '-A KUBE-POSTROUTING -j MASQUERADE --random-fully',
    ...own.flatMap((service) => serviceRules(service, bits)),
    // kube-proxy keeps this rule the last of the chain.
    '-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS',
    `-A POSTROUTING -s ${masquerade.podCidr} ! -d ${masquerade.podCidr} -o ${masquerade.uplink} -j MASQUERADE`,
    'COMMIT',
    '',
  ].join('\n');
}

/** Input for `nft -f`; both families. */
export function nftablesRules(
  services: readonly ServiceSpec[],
  masquerade: Readonly<Record<Family, Masquerade>>,
): string {
  return ([4, 6] as const)
    .map((family) => nftablesTable(services, family, masquerade[family]))
    .join('\n');
}

function match({ clusterIp, port, protocol }: ServiceSpec, bits: number): string {
  return `-d ${clusterIp}/${bits} -p ${protocol} -m ${protocol} --dport ${port}`;
}

function serviceRules(service: ServiceSpec, bits: number): string[] {
  const { clusterIp, backends, protocol, nodePort } = service;
  if (backends.length === 0) return [];
  const id = serviceId(service);
  const rules = [`-A KUBE-SERVICES ${match(service, bits)} -j KUBE-SVC-${id}`];
  backends.forEach(({ address, port }, i) => {
    const left = backends.length - i;
    const chance = left === 1 ? '' : `-m statistic --mode random --probability ${1 / left} `;
    const target = familyOf(clusterIp) === 6 ? `[${address}]:${port}` : `${address}:${port}`;
    rules.push(
      `-A KUBE-SVC-${id} ${chance}-j KUBE-SEP-${id}${i}`,
      `-A KUBE-SEP-${id}${i} -s ${address}/${bits} -j KUBE-MARK-MASQ`,
      `-A KUBE-SEP-${id}${i} -p ${protocol} -m ${protocol} -j DNAT --to-destination ${target}`,
    );
  });
  if (nodePort !== undefined) {
    rules.push(
      `-A KUBE-NODEPORTS -p ${protocol} -m ${protocol} --dport ${nodePort} -j KUBE-EXT-${id}`,
      `-A KUBE-EXT-${id} -j KUBE-MARK-MASQ`,
      `-A KUBE-EXT-${id} -j KUBE-SVC-${id}`,
    );
  }
  return rules;
}

function nftablesTable(
  services: readonly ServiceSpec[],
  family: Family,
  masquerade: Masquerade,
): string {
  const own = services.filter(({ clusterIp }) => familyOf(clusterIp) === family);
  const ip = family === 4 ? 'ip' : 'ip6';
  const type = family === 4 ? 'ipv4_addr' : 'ipv6_addr';
  const element = ({ clusterIp, protocol, port }: ServiceSpec, target: string): string =>
    `${clusterIp} . ${protocol} . ${port} : goto ${target}`;
  const served = own.filter(({ backends }) => backends.length > 0);
  const elements = served.map((service) => element(service, `service-${serviceId(service)}`));
  const refused = own
    .filter(({ backends }) => backends.length === 0)
    .map((service) => element(service, 'reject-chain'));
  const nodePorts = served
    .filter(({ nodePort }) => nodePort !== undefined)
    .map(
      (service) =>
        `${service.protocol} . ${service.nodePort} : goto external-${serviceId(service)}`,
    );
  return `table ${ip} kube-proxy
delete table ${ip} kube-proxy
table ${ip} kube-proxy {
  chain mark-for-masquerade { meta mark set meta mark or 0x4000; }
${own.map((service) => nftablesService(service, ip)).join('')}
  chain reject-chain { reject; }
${verdictMap('service-ips', `${type} . inet_proto . inet_service`, elements)}
${verdictMap('no-endpoint-services', `${type} . inet_proto . inet_service`, refused)}
${verdictMap('service-nodeports', 'inet_proto . inet_service', nodePorts)}
  chain services {
    ${ip} daddr . meta l4proto . th dport vmap @service-ips
    fib daddr type local meta l4proto . th dport vmap @service-nodeports
  }
  chain filter-forward {
    type filter hook forward priority filter; policy accept;
    ct state invalid drop
    ct state new ${ip} daddr . meta l4proto . th dport vmap @no-endpoint-services
  }
  chain filter-output {
    type filter hook output priority filter; policy accept;
    ct state new ${ip} daddr . meta l4proto . th dport vmap @no-endpoint-services
  }
  chain nat-prerouting { type nat hook prerouting priority dstnat; policy accept; jump services; }
  chain nat-output { type nat hook output priority -100; policy accept; jump services; }
  chain nat-postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    meta mark & 0x4000 == 0x4000 meta mark set meta mark xor 0x4000 masquerade fully-random
    ${ip} saddr ${masquerade.podCidr} ${ip} daddr != ${masquerade.podCidr} oifname "${masquerade.uplink}" masquerade
  }
}
`;
}

function verdictMap(name: string, key: string, elements: readonly string[]): string {
  const content = elements.length > 0 ? ` elements = { ${elements.join(', ')} }` : '';
  return `  map ${name} { type ${key} : verdict;${content} }`;
}

function nftablesService(service: ServiceSpec, ip: string): string {
  const id = serviceId(service);
  const { backends, protocol, nodePort } = service;
  if (backends.length === 0) return '';
  const isSix = ip === 'ip6';
  const endpoints = backends.map(
    ({ address, port }, i) => `  chain endpoint-${id}-${i} {
    ${ip} saddr ${address} jump mark-for-masquerade
    meta l4proto ${protocol} dnat to ${isSix ? `[${address}]` : address}:${port}
  }
`,
  );
  const choices = backends.map((_, i) => `${i} : goto endpoint-${id}-${i}`).join(', ');
  const external = `  chain external-${id} { jump mark-for-masquerade; goto service-${id}; }\n`;
  return `${endpoints.join('')}  chain service-${id} {
    numgen random mod ${backends.length} vmap { ${choices} }
  }
${nodePort === undefined ? '' : external}`;
}

function serviceId({ clusterIp, port, protocol }: ServiceSpec): string {
  const digest = createHash('sha256').update(`${clusterIp} ${protocol} ${port}`).digest('hex');
  return digest.slice(0, 12).toUpperCase();
}
