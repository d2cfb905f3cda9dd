// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Random policies and packets over a cluster so small that they meet, and what the policies plainly say about a packet. */

import * as fc from 'fast-check';
import { prefixContains } from '../src/net/ip.ts';
import {
  address,
  ccnp,
  cnp,
  namespace,
  nodeObject,
  pod,
  prefix,
  type Raw,
  service,
} from './cluster-fixture.ts';

export type Answer = 'none' | 'allow' | 'deny' | 'l7';

export interface PodFixture {
  readonly namespace: string;
  readonly app: string;
  readonly ips: readonly string[];
  readonly local: boolean;
}

export const pods: readonly PodFixture[] = [
  { namespace: 'a', app: 'x', ips: ['10.244.0.2', 'fd00:244::2'], local: true },
  { namespace: 'a', app: 'y', ips: ['10.244.0.3'], local: true },
  { namespace: 'b', app: 'x', ips: ['10.244.0.4'], local: true },
  { namespace: 'a', app: 'y', ips: ['10.244.1.2', 'fd00:244:0:1::2'], local: false },
  { namespace: 'b', app: 'y', ips: ['10.244.1.3'], local: false },
];
const apiServer = '198.51.100.1';
export const baseObjects: readonly Raw[] = [
  namespace('a', { team: 'one' }),
  namespace('b', { team: 'two' }),
  nodeObject('one', '192.168.0.1', '10.244.0.0/24', 'fd00:244::/64'),
  nodeObject('two', '192.168.0.2', '10.244.1.0/24', 'fd00:244:0:1::/64'),
  ...pods.map((each, index) =>
    pod(`${each.namespace}/p${index}`, { app: each.app }, each.local ? 'one' : 'two', ...each.ips),
  ),
  ...service('default/kubernetes', '10.96.0.1', [], apiServer, '192.168.0.2'),
];

/** Kind of an address, by reading the list above. */
type Place =
  | { readonly kind: 'pod'; readonly pod: PodFixture }
  | { readonly kind: 'host' | 'remote-node' | 'unknown-pod' | 'service' | 'world' | 'api-server' };

function placeOf(text: string): Place {
  const owner = pods.find(({ ips }) => ips.includes(text));
  if (owner !== undefined) return { kind: 'pod', pod: owner };
  if (text === '192.168.0.1' || text === '169.254.1.1') return { kind: 'host' };
  if (text === '192.168.0.2') return { kind: 'remote-node' };
  if (text === apiServer) return { kind: 'api-server' };
  if (/^(10\.244\.[01]\.|fd00:244:)/.test(text)) return { kind: 'unknown-pod' };
  return { kind: text.startsWith('10.96.') ? 'service' : 'world' };
}

const peerTexts = [
  ...pods.flatMap(({ ips }) => ips),
  '192.168.0.1',
  '192.168.0.2',
  apiServer,
  '10.244.0.200',
  '10.96.0.1',
  '203.0.113.5',
  '203.0.113.7',
  '203.0.113.70',
  '203.0.113.200',
  '10.9.9.9',
  '169.254.169.254',
  '2001:db8::1',
  '2001:db8:1::1',
  '2002::1',
];

/* ---- random policies ---- */

interface PortFixture {
  readonly first: number;
  readonly last: number;
  readonly protocol: 'TCP' | 'UDP' | 'ANY';
}
type PeersFixture =
  | { readonly kind: 'absent' }
  | {
      readonly kind: 'endpoints';
      readonly list: readonly { readonly app?: string; readonly ns?: string }[];
    }
  | {
      readonly kind: 'cidrs';
      readonly list: readonly { readonly cidr: string; readonly except: readonly string[] }[];
    }
  | { readonly kind: 'entities'; readonly list: readonly string[] }
  | { readonly kind: 'fqdns'; readonly list: readonly string[] };
interface ElementFixture {
  readonly section: 'ingress' | 'ingressDeny' | 'egress' | 'egressDeny';
  readonly peers: PeersFixture;
  readonly ports: readonly PortFixture[] | null;
  readonly dns: boolean;
}
export interface PolicyFixture {
  /** '' is clusterwide. */
  readonly namespace: string;
  readonly app: string | null;
  readonly elements: readonly ElementFixture[];
  readonly noDefaultDeny: readonly ('ingress' | 'egress')[];
}

const cidrs = [
  '0.0.0.0/0',
  '203.0.113.0/24',
  '203.0.113.0/25',
  '203.0.113.64/26',
  '203.0.113.7/32',
  '10.0.0.0/8',
  '10.244.0.0/16',
  '192.168.0.0/24',
  '198.51.100.1/32',
  '169.254.0.0/16',
  '::/0',
  '2001:db8::/32',
  '2001:db8:1::/48',
];
const entities = [
  'all',
  'world',
  'world-ipv4',
  'world-ipv6',
  'cluster',
  'host',
  'remote-node',
  'kube-apiserver',
  'none',
];
export const edgePorts: readonly number[] = [
  1, 52, 53, 54, 79, 80, 81, 443, 1023, 1024, 8080, 32_767, 32_768, 65_535,
];

const portFixture: fc.Arbitrary<PortFixture> = fc
  .record({
    first: fc.constantFrom(0, ...edgePorts),
    more: fc.constantFrom(0, 0, 1, 27, 900, 70_000),
    protocol: fc.constantFrom('TCP', 'UDP', 'ANY'),
  })
  .map(({ first, more, protocol }) => ({
    protocol,
    first,
    last: first === 0 ? 65_535 : Math.min(first + more, 65_535),
  }));

const cidrFixture = fc
  .record({ cidr: fc.constantFrom(...cidrs), holes: fc.subarray(cidrs, { maxLength: 2 }) })
  .map(({ cidr, holes }) => ({
    cidr,
    except: holes.filter((hole) => {
      const [outer, inner] = [prefix(cidr), prefix(hole)];
      return outer.bits <= inner.bits && prefixContains(outer, inner.address);
    }),
  }));

const peersFixture: fc.Arbitrary<PeersFixture> = fc.oneof(
  fc.constant<PeersFixture>({ kind: 'absent' }),
  fc
    .array(
      fc.record(
        { app: fc.constantFrom('x', 'y'), ns: fc.constantFrom('a', 'b') },
        { requiredKeys: [] },
      ),
      { maxLength: 2 },
    )
    .map((list): PeersFixture => ({ kind: 'endpoints', list })),
  fc
    .array(cidrFixture, { minLength: 1, maxLength: 3 })
    .map((list): PeersFixture => ({ kind: 'cidrs', list })),
  fc
    .subarray(entities, { minLength: 1, maxLength: 2 })
    .map((list): PeersFixture => ({ kind: 'entities', list })),
  fc
    .subarray(['one.example.', 'two.example.'], { minLength: 1 })
    .map((list): PeersFixture => ({ kind: 'fqdns', list })),
);

const elementFixture: fc.Arbitrary<ElementFixture> = fc
  .record({
    section: fc.constantFrom('ingress', 'ingressDeny', 'egress', 'egress', 'egressDeny'),
    peers: peersFixture,
    ports: fc.option(fc.array(portFixture, { minLength: 1, maxLength: 3 }), { freq: 2 }),
    dns: fc.boolean(),
  })
  .map(({ section, peers, ports, dns }): ElementFixture => {
    const fixed: PeersFixture =
      peers.kind === 'fqdns' && section !== 'egress' ? { kind: 'absent' } : peers;
    const isDns = dns && section === 'egress' && ports !== null && fixed.kind !== 'fqdns';
    const single = (port: PortFixture): PortFixture => ({
      ...port,
      first: port.first || 53,
      last: port.first || 53,
    });
    return { section, peers: fixed, ports: isDns ? ports.map(single) : ports, dns: isDns };
  });

const policyFixture: fc.Arbitrary<PolicyFixture> = fc.record({
  namespace: fc.constantFrom('', 'a', 'b'),
  app: fc.constantFrom(null, 'x', 'y'),
  elements: fc.array(elementFixture, { minLength: 1, maxLength: 4 }),
  noDefaultDeny: fc.subarray(['ingress', 'egress'], { maxLength: 1 }),
});

/* ---- the fixtures as objects ---- */

export function policyObject(fixture: PolicyFixture, index: number): Raw {
  const sections: Record<string, Raw[]> = {};
  for (const element of fixture.elements) {
    (sections[element.section] ??= []).push(elementObject(element));
  }
  const spec = {
    endpointSelector: fixture.app === null ? {} : { matchLabels: { app: fixture.app } },
    ...sections,
    enableDefaultDeny: Object.fromEntries(fixture.noDefaultDeny.map((name) => [name, false])),
  };
  return fixture.namespace === ''
    ? ccnp(`p${index}`, spec)
    : cnp(`${fixture.namespace}/p${index}`, spec);
}

function elementObject({ section, peers, ports, dns }: ElementFixture): Raw {
  const direction = section.startsWith('egress') ? 'to' : 'from';
  const element: Record<string, unknown> = {};
  if (peers.kind === 'endpoints') {
    element[`${direction}Endpoints`] = peers.list.map(({ app, ns }) => ({
      matchLabels: {
        ...(app === undefined ? {} : { app }),
        ...(ns === undefined ? {} : { 'k8s:io.kubernetes.pod.namespace': ns }),
      },
    }));
  }
  if (peers.kind === 'cidrs') element[`${direction}CIDRSet`] = peers.list;
  if (peers.kind === 'entities') element[`${direction}Entities`] = peers.list;
  if (peers.kind === 'fqdns') element['toFQDNs'] = peers.list.map((matchName) => ({ matchName }));
  if (ports !== null) {
    const list = ports.map(({ first, last, protocol }) => ({
      port: String(first),
      protocol,
      ...(first === 0 || first === last ? {} : { endPort: last }),
    }));
    element['toPorts'] = [
      { ports: list, ...(dns ? { rules: { dns: [{ matchName: 'a.b' }] } } : {}) },
    ];
  }
  return element;
}

/* ---- the plain reading ---- */

export interface Packet {
  readonly pod: number;
  readonly direction: 'ingress' | 'egress';
  readonly peer: string;
  readonly protocol: number;
  readonly port: number;
}

export function read(
  policies: readonly PolicyFixture[],
  packet: Packet,
  learned: ReadonlyMap<string, ReadonlySet<string>>,
): Answer {
  const self = pods[packet.pod] as PodFixture;
  const selecting = policies.filter(
    (policy) =>
      (policy.namespace === '' || policy.namespace === self.namespace) &&
      (policy.app === null || policy.app === self.app),
  );
  const subject = selecting.filter((policy) =>
    policy.elements.some(({ section }) => section.startsWith(packet.direction)),
  );
  if (subject.length === 0) return 'allow';
  const answers = subject.flatMap((policy) =>
    policy.elements
      .filter(({ section }) => section.startsWith(packet.direction))
      .filter((element) => saysSomething(element) && holds(element, policy, packet, learned))
      .map((element): Answer => {
        if (element.section.endsWith('Deny')) return 'deny';
        return element.dns ? 'l7' : 'allow';
      }),
  );
  const isOpen = subject.every((policy) => policy.noDefaultDeny.includes(packet.direction));
  for (const answer of ['deny', 'l7', 'allow'] as const)
    if (answers.includes(answer)) return answer;
  return isOpen ? 'allow' : 'none';
}

function saysSomething({ peers, ports }: ElementFixture): boolean {
  return peers.kind !== 'absent' || ports !== null;
}

function holds(
  element: ElementFixture,
  policy: PolicyFixture,
  packet: Packet,
  learned: ReadonlyMap<string, ReadonlySet<string>>,
): boolean {
  const portHolds =
    element.ports === null ||
    element.ports.some(({ first, last, protocol }) => {
      const numbers = { TCP: [6], UDP: [17], ANY: element.dns ? [6, 17] : [6, 17, 132] }[protocol];
      return numbers.includes(packet.protocol) && first <= packet.port && packet.port <= last;
    });
  return portHolds && peerHolds(element.peers, policy.namespace, packet.peer, learned);
}

function peerHolds(
  peers: PeersFixture,
  policyNamespace: string,
  text: string,
  learned: ReadonlyMap<string, ReadonlySet<string>>,
): boolean {
  const place = placeOf(text);
  const isOutside = place.kind === 'world' || place.kind === 'api-server';
  const holdsCidr = (cidr: string): boolean => prefixContains(prefix(cidr), address(text));
  switch (peers.kind) {
    case 'absent':
      return true;
    case 'endpoints':
      return peers.list.some(({ app, ns }) => {
        if (place.kind !== 'pod') return false;
        const wanted = ns ?? (policyNamespace === '' ? place.pod.namespace : policyNamespace);
        return place.pod.namespace === wanted && (app === undefined || app === place.pod.app);
      });
    case 'cidrs':
      return (
        isOutside &&
        peers.list.some(({ cidr, except }) => holdsCidr(cidr) && !except.some(holdsCidr))
      );
    case 'entities':
      return peers.list.some((entity) => entityHolds(entity, place, text));
    case 'fqdns':
      return (
        place.kind === 'world' &&
        !text.startsWith('169.254.') &&
        peers.list.some((name) => learned.get(text)?.has(name))
      );
  }
}

function entityHolds(entity: string, { kind }: Place, text: string): boolean {
  const isOutside = kind === 'world' || kind === 'api-server';
  switch (entity) {
    case 'all':
      return true;
    case 'world':
      return isOutside;
    case 'world-ipv4':
      return isOutside && !text.includes(':');
    case 'world-ipv6':
      return isOutside && text.includes(':');
    case 'cluster':
      return ['pod', 'host', 'remote-node', 'unknown-pod', 'api-server'].includes(kind);
    case 'host':
      return kind === 'host';
    case 'remote-node':
      return kind === 'remote-node';
    case 'kube-apiserver':
      return kind === 'api-server' || text === '192.168.0.2';
    default:
      return false;
  }
}

/* ---- what to ask ---- */

export const policiesFixture: fc.Arbitrary<PolicyFixture[]> = fc.array(policyFixture, {
  minLength: 1,
  maxLength: 4,
});
export const packetsFixture: fc.Arbitrary<Packet[]> = fc.array(
  fc.record({
    pod: fc.constantFrom(0, 1, 2),
    direction: fc.constantFrom('ingress', 'egress'),
    peer: fc.constantFrom(...peerTexts),
    protocol: fc.constantFrom(6, 17, 132, 1),
    port: fc.oneof(fc.constantFrom(0, ...edgePorts), fc.nat({ max: 65_535 })),
  }),
  { minLength: 40, maxLength: 40 },
);
export const learnedFixture: fc.Arbitrary<ReadonlyMap<string, ReadonlySet<string>>> = fc
  .array(fc.tuple(fc.constantFrom(...peerTexts), fc.constantFrom('one.example.', 'two.example.')), {
    maxLength: 12,
  })
  .map((pairs): ReadonlyMap<string, ReadonlySet<string>> => {
    const learned = new Map<string, Set<string>>();
    for (const [text, name] of pairs) learned.set(text, (learned.get(text) ?? new Set()).add(name));
    return learned;
  });
