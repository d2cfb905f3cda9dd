// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  address,
  basicObjects,
  cnp,
  codes,
  compileObjects,
  dnsRule,
  endpointAt,
  kubeDns,
  pod,
  prefix,
  type Raw,
  service,
  toWorld,
  web,
} from '../../../test/cluster-fixture.ts';
import { formatAddress, formatPrefix, parseAddress } from '../../net/ip.ts';
import type { Compiled, MemberPolicy } from '../model/desired.ts';
import { ClassFlag, classNone, selectorBit } from '../model/kernel-numbers.ts';
import { expandPolicy } from './expand.ts';

/** `prefix` -> selectors and flags, of all entries of classes. */
function classRows(compiled: Compiled): Readonly<Record<string, string>> {
  const letters: readonly [keyof typeof ClassFlag, string][] = [
    ['cluster', 'C'],
    ['node', 'N'],
    ['service', 'S'],
    ['linkLocal', 'L'],
    ['localPods', 'P'],
    ['host', 'H'],
  ];
  return Object.fromEntries(
    Array.from(compiled.classes, ({ prefix: where, classId, flags }) => {
      const selectors = compiled.classTable.selectorsOf.get(classId) ?? [];
      assert.equal(selectors.length === 0, classId === classNone);
      const text = letters.filter(([name]) => flags & ClassFlag[name]).map(([, letter]) => letter);
      return [formatPrefix(where), `${text.join('')} ${selectors.join(' + ')}`.trim()];
    }),
  );
}

test('the basic cluster compiles without policy and without a word', () => {
  const compiled = compileObjects(basicObjects);
  assert.deepEqual(compiled.diagnostics, []);
  assert.equal(compiled.fits, true);
  const rows = compiled.endpoints.map((endpoint) => [
    formatAddress(endpoint.address),
    endpoint.flags,
  ]);
  assert.deepEqual(rows, [
    ['10.244.0.5', 0],
    ['fd00:244::5', 0],
  ]);
  const { policyId } = endpointAt(compiled, '10.244.0.5');
  assert.notEqual(policyId, 0);
  assert.deepEqual(compiled.policies.get(policyId)?.rules, []);
  assert.deepEqual(compiled.members.policies, [
    { id: policyId, servers: [], predecessors: [], fqdnPatterns: [] },
  ]);
});

test('classes without policy carry flags only', () => {
  assert.deepEqual(classRows(compileObjects(basicObjects)), {
    '::1/128': 'CNL',
    '10.96.0.0/16': 'CS',
    '10.244.0.0/24': 'CP',
    '10.244.0.0/32': 'CN',
    '10.244.1.0/24': 'C',
    '10.244.1.0/32': 'CN',
    '10.244.1.1/32': 'CN',
    '100.100.100.200/32': 'L',
    '127.0.0.0/8': 'L',
    '168.63.129.16/32': 'L',
    '169.254.0.0/16': 'L',
    '169.254.1.1/32': 'CNLH',
    '192.0.0.192/32': 'L',
    '192.168.0.1/32': 'CNH',
    '192.168.0.2/32': 'CN',
    'fd00:244:0:1::/128': 'CN',
    'fd00:244:0:1::/64': 'C',
    'fd00:244:0:1::1/128': 'CN',
    'fd00:244::/128': 'CN',
    'fd00:244::/64': 'CP',
    'fd00:100::100:200/128': 'L',
    'fd00:42::42/128': 'L',
    'fd00:a9fe:a9fe::1/128': 'L',
    'fd00:c1::a9fe:a9fe/128': 'L',
    'fd00:ec2::/32': 'L',
    'fd20:ce::254/128': 'L',
    'fe80::/10': 'L',
  });
});

test("the node's own address inside its pod CIDR is no unknown pod", () => {
  const bridge = parseAddress('10.244.0.1');
  assert.ok(bridge !== null);
  const rows = classRows(compileObjects(basicObjects, { node: { localAddresses: [bridge] } }));
  assert.equal(rows['10.244.0.1/32'], 'CNH');
  assert.equal(rows['192.168.0.1/32'], 'CN', "the Node object's, which no interface has");
  assert.equal(rows['10.244.0.0/24'], 'CP');
});

test('link-local addresses of the host at its bridges: for no pod to claim, and as a peer the world', () => {
  const spec = { endpointSelector: web, egress: [{ toEntities: ['host', 'cluster', 'world'] }] };
  const addresses = { linkLocalAddresses: ['fe80::1', 'fe80::c0ff:ee'].map(address) };
  const objects = [...basicObjects, cnp('shop/p', spec)];
  const rows = classRows(compileObjects(objects, { node: addresses }));
  const world = rows['fe80::/10']?.replace('L ', '');
  assert.equal(rows['fe80::1/128'], `NL ${world}`);
  assert.equal(rows['fe80::c0ff:ee/128'], `NL ${world}`);
  assert.match(String(world), /^entity world/);
  const cache = { ...addresses, nodeLocalDns: [address('fe80::1')] };
  const withCache = classRows(compileObjects(basicObjects, { node: cache }));
  assert.equal(withCache['fe80::1/128'], 'CNL', 'a node-local cache is the host');
});

test('what is no pod of this node, though in its pod CIDR: a pod of another node, an end of a tunnel', () => {
  const remote = pod('shop/far', { app: 'far' }, 'two', '10.244.0.77');
  const first = pod('shop/first', { app: 'first' }, 'two', '10.244.1.0');
  const rows = classRows(compileObjects([...basicObjects, remote, first]));
  assert.equal(rows['10.244.0.77/32'], 'C');
  assert.equal(rows['10.244.0.0/24'], 'CP');
  assert.equal(rows['10.244.0.0/32'], 'CN', 'flannel.1 of this node');
  assert.equal(rows['10.244.1.0/32'], undefined, 'an address that an IPAM gave to a pod is a pod');
  assert.equal(rows['10.244.1.1/32'], 'CN', 'cni0 of the other node');
  assert.equal(
    rows['10.244.0.1/32'],
    undefined,
    'of this node’s CIDR it is a pod until an interface has it',
  );
});

test('classes: overlapping CIDRs, holes, and owners that CIDRs do not reach', () => {
  const spec = {
    endpointSelector: web,
    egress: [
      { toCIDR: ['203.0.113.0/24', '10.0.0.0/8', '169.254.169.254'] },
      { toCIDRSet: [{ cidr: '203.0.113.128/25', except: ['203.0.113.192/26'] }] },
      { toEndpoints: [{ matchLabels: { app: 'db' } }] },
      { toEntities: ['host', 'cluster'] },
    ],
  };
  const rows = classRows(compileObjects([...basicObjects, cnp('shop/p', spec)]));
  const outer = 'cidr 203.0.113.0/24';
  const holed = 'cidr 203.0.113.128/25 !203.0.113.192/26';
  assert.equal(rows['203.0.113.0/24'], outer);
  assert.equal(rows['203.0.113.128/25'], `${outer} + ${holed}`);
  assert.equal(rows['203.0.113.192/26'], outer);
  assert.equal(rows['10.0.0.0/8'], 'cidr 10.0.0.0/8');
  assert.equal(rows['10.244.0.0/24'], 'CP entity cluster');
  assert.equal(rows['10.96.0.0/16'], 'CS');
  assert.equal(rows['169.254.169.254/32'], 'L cidr 169.254.169.254/32');
  assert.equal(rows['192.168.0.1/32'], 'CNH entity cluster + entity host');
  assert.equal(rows['192.168.0.2/32'], 'CN entity cluster');
  const db = 'labels k8s:app In ["db"],k8s:io.kubernetes.pod.namespace In ["shop"]';
  assert.equal(rows['10.244.1.5/32'], `C entity cluster + ${db}`);
  // A pod that looks like the rest of its CIDR needs no entry.
  assert.equal(rows['10.244.1.53/32'], undefined);
});

test('classes: a ClusterIP of the cluster DNS that the host has itself is the DNS pods, and the host', () => {
  const toDnsPods = { endpointSelector: web, egress: [{ toEndpoints: [kubeDns] }] };
  const objects = [...basicObjects, cnp('shop/p', toDnsPods)];
  const own = { localAddresses: [address('192.168.0.1'), address('10.96.0.10')] };
  const dns =
    'labels k8s:io.kubernetes.pod.namespace In ["kube-system"],k8s:k8s-app In ["kube-dns"]';
  assert.equal(classRows(compileObjects(objects))['10.96.0.10/32'], undefined);
  assert.equal(classRows(compileObjects(objects, { node: own }))['10.96.0.10/32'], `CNSH ${dns}`);
});

test('no address of the cluster is learned, of an API server outside of its nodes neither', () => {
  const api = service('default/kubernetes', '10.96.0.1', [], '198.51.100.1', '2001:db8::1');
  const { neverLearn } = compileObjects([...basicObjects, ...api]).members;
  const texts = neverLearn.map(formatPrefix);
  assert.deepEqual(
    texts.filter((text) => ['198.51.100.1/32', '2001:db8::1/128'].includes(text)).sort(),
    ['198.51.100.1/32', '2001:db8::1/128'],
  );
});

test('classes: world and its families, the API server inside and outside', () => {
  const egress = [
    { toEntities: ['world', 'world-ipv6', 'kube-apiserver', 'remote-node'] },
    { toCIDR: ['::/0'] },
  ];
  const policy = cnp('shop/p', { endpointSelector: web, egress });
  const api = service('default/kubernetes', '10.96.0.1', [], '198.51.100.1', '192.168.0.2');
  const rows = classRows(compileObjects([...basicObjects, policy, ...api]));
  assert.equal(rows['::/0'], 'cidr ::/0 + entity world + entity world-ipv6');
  assert.equal(rows['0.0.0.0/0'], 'entity world');
  assert.equal(rows['198.51.100.1/32'], 'C entity kube-apiserver + entity world');
  assert.equal(rows['192.168.0.2/32'], 'CN entity kube-apiserver + entity remote-node');
  assert.equal(rows['10.96.0.1/32'], undefined);
  assert.equal(rows['fe80::/10'], 'L cidr ::/0 + entity world + entity world-ipv6');
});

test('an API server outside of the nodes is of the cluster, and of the world: managed clusters have it there', () => {
  const rules = { egress: [{ toEntities: ['cluster'] }], ingress: [{ fromEntities: ['world'] }] };
  const policy = cnp('shop/p', { endpointSelector: web, ...rules });
  const api = service('default/kubernetes', '10.96.0.1', [], '198.51.100.1', '192.168.0.2');
  const rows = classRows(compileObjects([...basicObjects, policy, ...api]));
  assert.equal(rows['198.51.100.1/32'], 'C entity cluster + entity world');
  assert.equal(rows['192.168.0.2/32'], 'CN entity cluster');
  assert.equal(rows['::/0'], 'entity world');
});

test('a class id names its selectors: it is the same for the same set, and survives other policies', () => {
  const policy = cnp('shop/p', { endpointSelector: web, egress: [{ toCIDR: ['203.0.113.0/24'] }] });
  const other = cnp('shop/q', { endpointSelector: web, egress: [{ toCIDR: ['198.51.100.0/24'] }] });
  const idOf = (compiled: Compiled): number | undefined =>
    [...compiled.classes].find(({ prefix: where }) => formatPrefix(where) === '203.0.113.0/24')
      ?.classId;
  const alone = compileObjects([...basicObjects, policy]);
  const both = compileObjects([...basicObjects, policy, other], {}, alone.ids);
  assert.equal(idOf(both), idOf(alone));
  assert.deepEqual(both.classTable.selectorsOf.get(idOf(both) ?? 0), ['cidr 203.0.113.0/24']);
});

test('never learned: everything of the cluster, link-local and metadata, in prefixes that do not nest', () => {
  const { neverLearn } = compileObjects(basicObjects).members;
  assert.deepEqual(neverLearn.map(formatPrefix), [
    '::1/128',
    '10.96.0.0/16',
    '10.244.0.0/24',
    '10.244.1.0/24',
    '100.100.100.200/32',
    '127.0.0.0/8',
    '168.63.129.16/32',
    '169.254.0.0/16',
    '192.0.0.192/32',
    '192.168.0.1/32',
    '192.168.0.2/32',
    'fd00:42::42/128',
    'fd00:c1::a9fe:a9fe/128',
    'fd00:100::100:200/128',
    'fd00:244::/64',
    'fd00:244:0:1::/64',
    'fd00:ec2::/32',
    'fd00:a9fe:a9fe::1/128',
    'fd20:ce::254/128',
    'fe80::/10',
  ]);
});

const dnsAndName: Raw = {
  endpointSelector: web,
  egress: [
    { toEndpoints: [kubeDns], toPorts: dnsRule('*.example') },
    {
      toFQDNs: [{ matchName: 'a.example' }],
      toPorts: [{ ports: [{ port: '443', protocol: 'TCP' }] }],
    },
  ],
};

test('what members serve from before this process stays known beside what is new', () => {
  const before = compileObjects([...basicObjects, cnp('shop/p', dnsAndName)]).members;
  const other: Raw = {
    endpointSelector: web,
    egress: [{ toEndpoints: [kubeDns], toPorts: dnsRule('*.other') }],
  };
  const objects = [...basicObjects, cnp('shop/q', other)];
  const alone = compileObjects(objects).members;
  const { members } = compileObjects(objects, { served: before });
  const textsOf = (policy: MemberPolicy): string[] => policy.patterns.map(({ text }) => text);
  assert.deepEqual(new Set(textsOf(members)), new Set([...textsOf(before), ...textsOf(alone)]));
  const idsOf = (list: readonly { readonly id: number }[]): number[] => list.map(({ id }) => id);
  for (const field of ['policies', 'selectors', 'ruleSets'] as const) {
    const wanted = new Set([...idsOf(before[field]), ...idsOf(alone[field])]);
    assert.deepEqual(new Set(idsOf(members[field])), wanted, field);
  }
  // A policy of before says what it said, by its own rule sets.
  for (const { id, servers } of before.policies) {
    assert.deepEqual(members.policies.find((policy) => policy.id === id)?.servers, servers);
  }
  assert.deepEqual(members.endpoints, alone.endpoints);
  // Serving what is served already changes nothing.
  assert.deepEqual(compileObjects(objects, { served: alone }).members, alone);
});

test('selectors: shared with trusted servers only, a private one beside it with any other', () => {
  // The DNS pod may be asked under its own address too, which no pod has as resolver.
  const compiled = compileObjects([...basicObjects, cnp('shop/p', dnsAndName)]);
  const { policyId } = endpointAt(compiled, '10.244.0.5');
  const owners = compiled.members.selectors.map((selector) => selector.policyId);
  assert.deepEqual(owners.toSorted(), [0, policyId].toSorted());
  for (const { id, patternIndex } of compiled.members.selectors) {
    assert(id >= selectorBit);
    assert.deepEqual(compiled.members.patterns[patternIndex], {
      text: 'a.example.',
      context: 'toFQDNs',
    });
  }
  const policy = compiled.policies.get(policyId);
  assert(policy !== undefined);
  const peers = expandPolicy(policy, compiled.classTable).filter(({ peer }) => peer >= selectorBit);
  assert.deepEqual(
    peers.map(({ peer, protocol, port, verdict }) => [peer, protocol, port, verdict]).toSorted(),
    compiled.members.selectors.map(({ id }) => [id, 6, 443, 1]).toSorted(),
  );

  const trusting = { clusterResolvers: [address('10.96.0.10'), address('10.244.1.53')] };
  const trusted = compileObjects([...basicObjects, cnp('shop/p', dnsAndName)], { node: trusting });
  assert.deepEqual(
    trusted.members.selectors.map((selector) => selector.policyId),
    [0],
  );
  // Whether private selectors exist is part of the policy: its entries differ, so its id does.
  assert.notEqual(endpointAt(trusted, '10.244.0.5').policyId, policyId);
});

test('trusted servers: as configured, else ClusterIPs of kube-dns and node-local caches', () => {
  const trusted = (context: Parameters<typeof compileObjects>[1]): readonly string[] =>
    compileObjects(basicObjects, context).members.trustedServers.map((each) => formatAddress(each));
  assert.deepEqual(trusted({}), ['10.96.0.10']);
  const nodeLocalDns = [address('169.254.20.10')];
  assert.deepEqual(trusted({ node: { nodeLocalDns } }), ['10.96.0.10', '169.254.20.10']);
  assert.deepEqual(trusted({ node: { nodeLocalDns, clusterResolvers: [address('9.9.9.9')] } }), [
    '9.9.9.9',
  ]);
});

test('one pattern text is one pattern per context and one selector', () => {
  const second = cnp('shop/q', {
    endpointSelector: web,
    egress: [{ toFQDNs: [{ matchName: 'A.EXAMPLE.' }, { matchPattern: '*.example' }] }],
  });
  const trusting = { clusterResolvers: [address('10.96.0.10'), address('10.244.1.53')] };
  const compiled = compileObjects([...basicObjects, cnp('shop/p', dnsAndName), second], {
    node: trusting,
  });
  assert.deepEqual(compiled.members.patterns, [
    { text: '*.example.', context: 'rules.dns' },
    { text: '*.example.', context: 'toFQDNs' },
    { text: 'a.example.', context: 'toFQDNs' },
  ]);
  assert.equal(compiled.members.selectors.length, 2);
});

test('a policy id names rules: peers may come and go, a changed rule is another id', () => {
  const policy = (names: string): Raw =>
    cnp('shop/p', {
      endpointSelector: web,
      egress: [{ toFQDNs: [{ matchName: names }] }, { toEndpoints: [{}] }],
    });
  const idOf = (compiled: Compiled): number => endpointAt(compiled, '10.244.0.5').policyId;
  const first = compileObjects([...basicObjects, policy('a.b')]);
  const more = [...basicObjects, policy('a.b'), pod('shop/new', {}, 'two', '10.244.1.77')];
  assert.equal(idOf(compileObjects(more, {}, first.ids)), idOf(first));
  assert.notEqual(
    idOf(compileObjects([...basicObjects, policy('a.c')], {}, first.ids)),
    idOf(first),
  );
});

test('events can be explained: rule ids lead back to the field', () => {
  const compiled = compileObjects([
    ...basicObjects,
    cnp('shop/p', { endpointSelector: web, ...toWorld }),
  ]);
  const policy = compiled.policies.get(endpointAt(compiled, '10.244.0.5').policyId);
  const ruleId = policy?.rules[0]?.ruleId ?? 0;
  assert.equal(compiled.rules.get(ruleId)?.text, 'CiliumNetworkPolicy/shop/p: spec.egress[0]');
});

test('toFQDNs without rules.dns is said, with them it is not', () => {
  const egress = [{ toFQDNs: [{ matchName: 'a.b' }] }];
  const silent = compileObjects([
    ...basicObjects,
    cnp('shop/p', { endpointSelector: web, egress }),
  ]);
  assert.deepEqual(codes(silent), ['fqdn-without-dns CiliumNetworkPolicy/shop/p']);
  assert.deepEqual(codes(compileObjects([...basicObjects, cnp('shop/p', dnsAndName)])), []);
});

test('pods beyond the map of endpoints are named and dropped, the others are in force', () => {
  const pods = Array.from({ length: 8_193 }, (_, index) =>
    pod(`shop/p${index}`, {}, 'one', `10.245.${index >> 8}.${index & 255}`),
  );
  const crowd = pod('shop/crowd', {}, 'one', '10.246.0.1', '10.246.0.2');
  const compiled = compileObjects([...basicObjects, ...pods, crowd]);
  assert.equal(compiled.endpoints.length, 8_192);
  assert.deepEqual(codes(compiled), [
    'limit Pod/shop/crowd',
    'limit Pod/shop/p999',
    'limit Pod/shop/web',
  ]);
});

test('a name of the node that the source does not know is said, where the source knows others', () => {
  const as = (nodeName: string, objects: readonly Raw[] = basicObjects): readonly string[] =>
    codes(compileObjects(objects, { node: { nodeName } }));
  assert.deepEqual(as('one.example'), ['node-unknown Node/one.example']);
  assert.deepEqual(as('one'), []);
  assert.deepEqual(as('new', [...basicObjects, pod('shop/p', {}, 'new', '10.244.9.9')]), []);
  assert.deepEqual(as('new', []), [], 'an empty source has no other name to offer');
});

test('a pod CIDR of configuration counts like one of a Node', () => {
  const clusterCidrs = [prefix('10.200.0.0/16')];
  const policy = cnp('shop/p', { endpointSelector: web, egress: [{ toCIDR: ['10.200.1.0/24'] }] });
  const rows = classRows(compileObjects([...basicObjects, policy], { node: { clusterCidrs } }));
  assert.equal(rows['10.200.0.0/16'], 'C');
  assert.equal(rows['10.200.1.0/24'], undefined);
  const own = { localPodCidrs: [prefix('10.9.0.0/24')] };
  const local = classRows(compileObjects(basicObjects, { node: own }));
  assert.equal(local['10.9.0.0/24'], 'CP');
  assert.equal(local['10.244.0.0/24'], 'C');
});
