// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PolicyKind } from '../k8s/objects.ts';
import { parseObject } from '../k8s/parse-object.ts';
import type { Result } from '../result.ts';
import { Direction } from './kernel-numbers.ts';
import { parseCiliumPolicy } from './parse-cilium.ts';
import { peerKey } from './peer.ts';
import type { InvalidPolicy, Policy, PolicyRule, PolicySpec } from './rule.ts';
import { selectorKey } from './selector.ts';

type Body = Readonly<Record<string, unknown>>;

function parse(
  body: Body,
  kind: PolicyKind = 'CiliumNetworkPolicy',
): Result<Policy, InvalidPolicy> {
  const metadata = { name: 'p', ...(kind === 'CiliumNetworkPolicy' ? { namespace: 'shop' } : {}) };
  const object = parseObject({ apiVersion: 'cilium.io/v2', kind, metadata, ...body });
  assert(object.ok && object.value.kind === kind);
  return parseCiliumPolicy(object.value);
}

/** The spec of a policy that must be valid. */
function specOf(spec: Body, kind?: PolicyKind): PolicySpec {
  const parsed = parse({ spec: { endpointSelector: {}, ...spec } }, kind);
  assert(parsed.ok, parsed.ok ? '' : JSON.stringify(parsed.error.errors));
  const [only] = parsed.value.specs;
  assert(only !== undefined);
  return only;
}

function ruleOf(spec: Body, kind?: PolicyKind): PolicyRule {
  const [only, ...others] = specOf(spec, kind).rules;
  assert(only !== undefined && others.length === 0);
  return only;
}

/** `path message` of each error. */
function errorsOf(spec: Body, kind?: PolicyKind): readonly string[] {
  const parsed = parse({ spec: { endpointSelector: {}, ...spec } }, kind);
  return parsed.ok ? [] : parsed.error.errors.map(({ path, message }) => `${path} ${message}`);
}

const dns53 = { ports: [{ port: '53', protocol: 'UDP' }], rules: { dns: [{ matchPattern: '*' }] } };
const many = (count: number): readonly unknown[] =>
  Array.from({ length: count }, (_, index) => ({ port: String(index + 1) }));

const errorTable: readonly (readonly [name: string, spec: Body, want: RegExp])[] = [
  // compat.md section 1, hard error 1
  ['no section', {}, /^spec rule must have at least one of Ingress/],
  ['ingress: []', { ingress: [] }, /^spec rule must have at least one of Ingress/],
  [
    'all sections empty',
    { ingress: [], egress: [], egressDeny: [], ingressDeny: [] },
    /at least one/,
  ],
  // 2
  [
    'both selectors',
    { nodeSelector: {}, egress: [{}] },
    /cannot have both EndpointSelector and NodeS/,
  ],
  [
    'no selector',
    { endpointSelector: undefined, egress: [{}] },
    /must have one of EndpointSelector/,
  ],
  [
    'nodeSelector',
    { endpointSelector: undefined, nodeSelector: {}, egress: [{}] },
    /^spec.nodeSelector/,
  ],
  // 3
  [
    'CIDR and FQDN',
    { egress: [{ toCIDR: ['10.0.0.0/8'], toFQDNs: [{ matchName: 'a' }] }] },
    /^spec.egress\[0\] combining toCIDR and toFQDNs/,
  ],
  [
    'endpoints and entities',
    { egress: [{ toEndpoints: [{}], toEntities: ['world'] }] },
    /combining toEndpoints and toEntities/,
  ],
  [
    'CIDR and CIDRSet',
    { ingress: [{ fromCIDR: ['::/0'], fromCIDRSet: [{ cidr: '::/0' }] }] },
    /combining fromCIDR and fromCIDRSet/,
  ],
  [
    'services and endpoints',
    { egress: [{ toServices: [{}], toEndpoints: [{}] }] },
    /combining toEndpoints and toServices/,
  ],
  [
    'groups and entities',
    { ingress: [{ fromGroups: [{}], fromEntities: ['all'] }] },
    /combining fromEntities and fromGroups/,
  ],
  [
    'empty kind beside another',
    { egressDeny: [{ toEntities: ['world'], toCIDR: [] }] },
    /toCIDR is empty beside/,
  ],
  // 4
  [
    'icmps',
    { egress: [{ icmps: [{ fields: [{ type: 8 }] }] }] },
    /^spec.egress\[0\].icmps is not supported/,
  ],
  [
    'icmps and ports',
    { egress: [{ icmps: [{}], toPorts: [dns53] }] },
    /icmps may only be present without toPorts/,
  ],
  // 5
  [
    '41 ports',
    { egress: [{ toPorts: [{ ports: many(41) }] }] },
    /toPorts\[0\].ports has 41 ports, at most 40/,
  ],
  // 6
  [
    'DNS on ingress',
    { ingress: [{ toPorts: [dns53] }] },
    /rules.dns DNS rules are not allowed on ingress/,
  ],
  [
    'DNS without ports',
    { egress: [{ toPorts: [{ rules: { dns: [{}] } }] }] },
    /ports must name a port for DNS rules/,
  ],
  [
    'DNS with a range',
    { egress: [{ toPorts: [{ ...dns53, ports: [{ port: '53', endPort: 54 }] }] }] },
    /endPort DNS rules do not support port ranges/,
  ],
  [
    'DNS with port 0',
    { egress: [{ toPorts: [{ ...dns53, ports: [{ port: '0' }] }] }] },
    /port must not be 0 for DNS rules/,
  ],
  [
    'DNS over SCTP',
    { egress: [{ toPorts: [{ ...dns53, ports: [{ port: '53', protocol: 'SCTP' }] }] }] },
    /DNS rules are for TCP, UDP or ANY/,
  ],
  [
    'HTTP',
    { egress: [{ toPorts: [{ ports: [{ port: '80' }], rules: { http: [{}] } }] }] },
    /rules.http is not supported/,
  ],
  [
    'kafka',
    { egress: [{ toPorts: [{ ports: [{ port: '80' }], rules: { kafka: [{}] } }] }] },
    /rules.kafka is not supported/,
  ],
  [
    'two L7 kinds',
    { egress: [{ toPorts: [{ ...dns53, rules: { dns: [{}], http: [{}] } }] }] },
    /rules has dns and http, but one/,
  ],
  [
    'L7 on a deny rule',
    { egressDeny: [{ toPorts: [dns53] }] },
    /toPorts\[0\].rules is not supported: a deny rule can name ports only/,
  ],
  [
    'FQDNs on a deny rule',
    { egressDeny: [{ toFQDNs: [{ matchName: 'a.b' }] }] },
    /toFQDNs is not supported: a deny rule/,
  ],
  [
    'FQDNs with DNS rules',
    { egress: [{ toFQDNs: [{ matchName: 'a.b' }], toPorts: [dns53] }] },
    /toFQDNs cannot name DNS servers/,
  ],
  [
    'FQDNs on ingress',
    { ingress: [{ toFQDNs: [{ matchName: 'a.b' }] }] },
    /toFQDNs is no known field/,
  ],
  // 7
  [
    'unknown entity',
    { egress: [{ toEntities: ['wrold'] }] },
    /toEntities\[0\] the text "wrold" is no known entity/,
  ],
  [
    'cluster-mesh',
    { egress: [{ toEntities: ['cluster-mesh'] }] },
    /cluster-mesh" is not supported/,
  ],
  // 8
  ['CIDR text', { egress: [{ toCIDR: ['10.0.0'] }] }, /toCIDR\[0\] "10.0.0" is neither/],
  ['CIDR length', { egress: [{ toCIDR: ['10.0.0.0/33'] }] }, /is no prefix/],
  [
    'mapped address',
    { egress: [{ toCIDR: ['::ffff:10.0.0.1'] }] },
    /is neither an IP address nor a prefix/,
  ],
  [
    'CIDRSet needs a prefix',
    { egress: [{ toCIDRSet: [{ cidr: '10.0.0.1' }] }] },
    /toCIDRSet\[0\].cidr "10.0.0.1" is no prefix/,
  ],
  [
    'CIDRSet without a source',
    { egress: [{ toCIDRSet: [{}] }] },
    /exactly one of cidr, cidrGroupRef, cidrGroupSelector, has 0/,
  ],
  [
    'CIDRSet with two sources',
    { egress: [{ toCIDRSet: [{ cidr: '::/0', cidrGroupRef: 'g' }] }] },
    /cidrGroupRef is not supported/,
  ],
  [
    'except outside',
    { egress: [{ toCIDRSet: [{ cidr: '10.0.0.0/8', except: ['11.0.0.0/8'] }] }] },
    /except\[0\] 11.0.0.0\/8 is not inside 10.0.0.0\/8/,
  ],
  [
    'except of another family',
    { egress: [{ toCIDRSet: [{ cidr: '::/0', except: ['10.0.0.0/8'] }] }] },
    /is not inside ::\/0/,
  ],
  [
    'except larger than cidr',
    { egress: [{ toCIDRSet: [{ cidr: '10.0.0.0/8', except: ['0.0.0.0/0'] }] }] },
    /is not inside/,
  ],
  // 9, 12 and the rest of the API that is not in the subset
  ['toNodes', { egress: [{ toNodes: [{}] }] }, /toNodes is not supported/],
  ['fromNodes', { ingress: [{ fromNodes: [{}] }] }, /fromNodes is not supported/],
  ['toRequires', { egress: [{ toRequires: [{}] }] }, /toRequires is not supported/],
  ['fromRequires', { ingress: [{ fromRequires: [{}] }] }, /fromRequires is not supported/],
  ['toServices', { egress: [{ toServices: [{}] }] }, /toServices is not supported/],
  ['toGroups', { egress: [{ toGroups: [{}] }] }, /toGroups is not supported/],
  [
    'authentication',
    { egress: [{ authentication: { mode: 'required' } }] },
    /authentication is not supported/,
  ],
  [
    'listener',
    { egress: [{ toPorts: [{ ports: [{ port: '1' }], listener: {} }] }] },
    /listener is not supported/,
  ],
  [
    'serverNames',
    { egress: [{ toPorts: [{ ports: [{ port: '1' }], serverNames: ['a'] }] }] },
    /serverNames is not supported/,
  ],
  [
    'terminatingTLS',
    { egress: [{ toPorts: [{ ports: [{ port: '1' }], terminatingTLS: {} }] }] },
    /terminatingTLS is not/,
  ],
  [
    'unknown field of a spec',
    { egres: [{}], egress: [{}] },
    /^spec.egres is no known field here: expected endpointSelector/,
  ],
  ['unknown field of an element', { egress: [{ toEndpoint: [] }] }, /toEndpoint is no known field/],
  ['inherited name', { egress: [{ constructor: [] }] }, /constructor is no known field/],
  // 11
  [
    'matchName with a star',
    { egress: [{ toFQDNs: [{ matchName: '*.a.b' }] }] },
    /toFQDNs\[0\].matchName .*may hold only/,
  ],
  [
    'matchPattern with a space',
    { egress: [{ toFQDNs: [{ matchPattern: 'a b' }] }] },
    /toFQDNs\[0\].matchPattern .*may hold only/,
  ],
  [
    '256 characters',
    { egress: [{ toFQDNs: [{ matchName: 'a'.repeat(256) }] }] },
    /matchName has 256 characters/,
  ],
  [
    'bad DNS name',
    { egress: [{ toPorts: [{ ...dns53, rules: { dns: [{ matchName: 'a/b' }] } }] }] },
    /dns\[0\].matchName .*may hold only/,
  ],
  [
    'name and pattern',
    { egress: [{ toFQDNs: [{ matchName: 'a', matchPattern: 'b' }] }] },
    /has both matchName and matchPattern/,
  ],
  // shapes
  ['null peers', { egress: [{ toEndpoints: null }] }, /toEndpoints is null/],
  ['null section', { egress: null, ingress: [{}] }, /^spec.egress is null/],
  ['null ports', { egress: [{ toPorts: null }] }, /toPorts is null/],
  ['null selector', { endpointSelector: null, egress: [{}] }, /endpointSelector is null/],
  ['section no list', { egress: {} }, /^spec.egress is a mapping, but must be a list/],
  ['element no mapping', { egress: ['x'] }, /^spec.egress\[0\] is the text "x"/],
  [
    'port as a number',
    { egress: [{ toPorts: [{ ports: [{ port: 53 }] }] }] },
    /port is the number 53, but must be a text/,
  ],
  ['port missing', { egress: [{ toPorts: [{ ports: [{}] }] }] }, /port is missing/],
  [
    'port octal',
    { egress: [{ toPorts: [{ ports: [{ port: '053' }] }] }] },
    /"053" is no port number/,
  ],
  [
    'port too large',
    { egress: [{ toPorts: [{ ports: [{ port: '65536' }] }] }] },
    /is no port number/,
  ],
  [
    'named port',
    { egress: [{ toPorts: [{ ports: [{ port: 'dns' }] }] }] },
    /named port "dns" is not supported/,
  ],
  [
    'endPort below port',
    { egress: [{ toPorts: [{ ports: [{ port: '9', endPort: 8 }] }] }] },
    /endPort 8 must not be below/,
  ],
  [
    'endPort of port 0',
    { egress: [{ toPorts: [{ ports: [{ port: '0', endPort: 8 }] }] }] },
    /endPort 8 must not be below/,
  ],
  [
    'endPort too large',
    { egress: [{ toPorts: [{ ports: [{ port: '9', endPort: 70_000 }] }] }] },
    /whole number of 0 to 65535/,
  ],
  [
    'protocol',
    { egress: [{ toPorts: [{ ports: [{ port: '9', protocol: 'VRRP' }] }] }] },
    /"VRRP" is no protocol here/,
  ],
  [
    'ICMP protocol',
    { egress: [{ toPorts: [{ ports: [{ port: '9', protocol: 'ICMP' }] }] }] },
    /ICMP rules are not supported/,
  ],
  ['toPorts without ports', { egress: [{ toPorts: [{}] }] }, /ports names no port/],
  [
    'enableDefaultDeny',
    { egress: [{}], enableDefaultDeny: { egress: 'no' } },
    /enableDefaultDeny.egress is the text "no"/,
  ],
  [
    'enableDefaultDeny field',
    { egress: [{}], enableDefaultDeny: { Egress: false } },
    /Egress is no known field/,
  ],
  [
    'operator',
    {
      endpointSelector: { matchExpressions: [{ key: 'a', operator: 'Gt', values: ['1'] }] },
      egress: [{}],
    },
    /operator must be one of In/,
  ],
  [
    'In without values',
    { endpointSelector: { matchExpressions: [{ key: 'a', operator: 'In' }] }, egress: [{}] },
    /at least one value/,
  ],
  [
    'Exists with values',
    {
      endpointSelector: { matchExpressions: [{ key: 'a', operator: 'Exists', values: ['b'] }] },
      egress: [{}],
    },
    /must be absent/,
  ],
  [
    'label source',
    { endpointSelector: { matchLabels: { 'container:a': 'b' } }, egress: [{}] },
    /label source "container:" is not/,
  ],
  [
    'label value',
    { endpointSelector: { matchLabels: { a: 'b c' } }, egress: [{}] },
    /"b c" is no label value/,
  ],
  [
    'label key',
    { endpointSelector: { matchLabels: { '-a': 'b' } }, egress: [{}] },
    /is no label key/,
  ],
  ['label number', { endpointSelector: { matchLabels: { a: 1 } }, egress: [{}] }, /must be a text/],
  [
    'selector field',
    { endpointSelector: { matchLabel: {} }, egress: [{}] },
    /matchLabel is no known field/,
  ],
  [
    'reserved label',
    { egress: [{ toEndpoints: [{ matchLabels: { 'reserved:all': '' } }] }] },
    /reserved:all is not supported/,
  ],
];

for (const [name, spec, want] of errorTable) {
  test(`error: ${name}`, () => {
    const errors = errorsOf(spec);
    assert(
      errors.some((error) => want.test(error)),
      `${want} in ${JSON.stringify(errors)}`,
    );
  });
}

test('a policy without spec and specs is invalid, one broken spec makes all invalid', () => {
  assert.equal(parse({}).ok, false);
  const good = { endpointSelector: {}, egress: [{}] };
  assert.equal(parse({ spec: good, specs: [good, { ...good, egress: [{ x: 1 }] }] }).ok, false);
  const both = parse({ spec: good, specs: [good, good] });
  assert(both.ok);
  assert.equal(both.value.specs.length, 3);
  assert.equal(parse({ spec: null }).ok, false);
  assert.equal(parse({ specs: {} }).ok, false);
});

test('an object asks for a bounded amount of work', () => {
  const names = Array.from({ length: 20_001 }, (_, index) => ({ matchName: `a${index}.b` }));
  assert.match(errorsOf({ egress: [{ toFQDNs: names }] })[0] ?? '', /beyond 20000 items/);
  const errors = errorsOf({ egress: Array.from({ length: 100 }, () => ({ x: 1 })) });
  assert.equal(errors.length, 21);
  assert.equal(errors.at(-1)?.trim(), 'and 80 more errors');
});

test('what an invalid policy holds: the pods it picks, in the directions it names', () => {
  const rows: [name: string, body: Body, want: readonly string[]][] = [
    ['egress', { spec: { endpointSelector: {}, egress: [{ x: 1 }] } }, ['egress']],
    ['ingress: []', { spec: { endpointSelector: {}, ingress: [] } }, ['ingress']],
    ['deny section', { spec: { endpointSelector: {}, ingressDeny: [{ x: 1 }] } }, ['ingress']],
    [
      'both',
      { spec: { endpointSelector: {}, ingress: [{}], egress: [{ x: 1 }] } },
      ['ingress egress'],
    ],
    ['a mistyped section', { spec: { endpointSelector: {}, egres: [{}] } }, ['ingress egress']],
    [
      'default deny switched off',
      { spec: { endpointSelector: {}, egress: [{ x: 1 }], enableDefaultDeny: { egress: false } } },
      ['egress'],
    ],
    [
      'two specs',
      {
        specs: [
          { endpointSelector: {}, egress: [{}] },
          { endpointSelector: {}, ingress: [{ x: 1 }] },
        ],
      },
      ['egress', 'ingress'],
    ],
    [
      'unreadable selector',
      { spec: { endpointSelector: { matchLabels: { a: 1 } }, egress: [{}] } },
      [],
    ],
    ['no selector', { spec: { egress: [{}] } }, []],
  ];
  for (const [name, body, want] of rows) {
    const parsed = parse(body);
    assert(!parsed.ok, name);
    const got = parsed.error.hold.map((spec) => {
      assert.deepEqual(spec.rules, []);
      assert.equal(spec.hasIngress, spec.denyIngress);
      assert.equal(spec.hasEgress, spec.denyEgress);
      return [spec.hasIngress ? 'ingress' : '', spec.hasEgress ? 'egress' : ''].join(' ').trim();
    });
    assert.deepEqual(got, want, name);
  }
});

test('directions and default deny', () => {
  const rows: [spec: Body, has: string, deny: string][] = [
    [{ ingress: [{}] }, 'i', 'i'],
    [{ egress: [{}] }, 'e', 'e'],
    [{ ingress: [], egress: [{}] }, 'e', 'e'],
    [{ egressDeny: [{ toEntities: ['world'] }] }, 'e', 'e'],
    [{ ingressDeny: [{ fromEntities: ['world'] }] }, 'i', 'i'],
    [{ egress: [{}], enableDefaultDeny: { egress: false } }, 'e', ''],
    [{ egress: [{}], enableDefaultDeny: { ingress: true } }, 'ie', 'ie'],
    [
      { egress: [{}], ingress: [{}], enableDefaultDeny: { ingress: false, egress: true } },
      'ie',
      'e',
    ],
  ];
  for (const [fields, has, deny] of rows) {
    const spec = specOf(fields);
    assert.equal(`${spec.hasIngress ? 'i' : ''}${spec.hasEgress ? 'e' : ''}`, has);
    assert.equal(`${spec.denyIngress ? 'i' : ''}${spec.denyEgress ? 'e' : ''}`, deny);
  }
});

test('absent, empty and present peers', () => {
  const port = { toPorts: [{ ports: [{ port: '80', protocol: 'TCP' }] }] };
  const rows: [element: Body, want: 'nothing' | 'any' | readonly string[]][] = [
    [{}, 'nothing'],
    [{ toPorts: [] }, 'nothing'],
    [port, 'any'],
    [{ toEntities: ['all'] }, 'any'],
    [{ toEntities: ['world', 'all'], ...port }, 'any'],
    [{ toEndpoints: [], ...port }, []],
    [{ toEndpoints: [] }, []],
    [{ toFQDNs: [], ...port }, []],
    [{ toFQDNs: [{}], ...port }, []],
    [{ toEntities: ['none', 'health', 'init', 'ingress', 'unmanaged'] }, []],
    [{ toEntities: ['host', 'world-ipv4'] }, ['entity host', 'entity world-ipv4']],
    [{ toCIDR: ['10.1.2.3', '2001:db8::1/64'] }, ['cidr 10.1.2.3/32', 'cidr 2001:db8::/64']],
    [
      {
        toCIDRSet: [{ cidr: '10.0.0.0/8', except: ['10.2.0.0/16', '10.1.0.0/16', '10.1.2.0/24'] }],
      },
      ['cidr 10.0.0.0/8 !10.1.0.0/16 !10.2.0.0/16'],
    ],
  ];
  for (const [element, want] of rows) {
    const { rules } = specOf({ egress: [element] });
    const label = JSON.stringify(element);
    if (want === 'nothing') {
      assert.deepEqual(rules, [], label);
      continue;
    }
    const [rule] = rules;
    assert(rule !== undefined, label);
    assert.deepEqual(rule.peers === 'any' ? 'any' : rule.peers.map(peerKey), want, label);
    assert.deepEqual(rule.fqdns, [], label);
  }
});

test('ports: any, wildcard, range, protocols', () => {
  const all = { first: 0, last: 65_535 };
  const rows: [port: Body, want: readonly unknown[]][] = [
    [{ port: '80', protocol: 'TCP' }, [{ protocol: 6, first: 80, last: 80 }]],
    [{ port: '80', protocol: 'tcp' }, [{ protocol: 6, first: 80, last: 80 }]],
    [{ port: '80', endPort: 90, protocol: 'UDP' }, [{ protocol: 17, first: 80, last: 90 }]],
    [{ port: '80', endPort: 0, protocol: 'UDP' }, [{ protocol: 17, first: 80, last: 80 }]],
    [{ port: '0', protocol: 'SCTP' }, [{ protocol: 132, ...all }]],
    [{ port: '53' }, [6, 17, 132].map((protocol) => ({ protocol, first: 53, last: 53 }))],
    [
      { port: '53', protocol: 'ANY' },
      [6, 17, 132].map((protocol) => ({ protocol, first: 53, last: 53 })),
    ],
  ];
  for (const [port, want] of rows) {
    const { ports } = ruleOf({ egress: [{ toPorts: [{ ports: [port] }] }] });
    assert(ports !== 'any');
    assert.deepEqual(ports, [{ ports: want, dns: null }]);
  }
  assert.equal(ruleOf({ egress: [{ toCIDR: ['::/0'], toPorts: [] }] }).ports, 'any');
  assert.equal(specOf({ egress: [{ toPorts: [{ ports: many(40) }] }] }).rules.length, 1);
});

test('DNS names: several meanings of empty', () => {
  const names = (dns: unknown): readonly [boolean, readonly string[]] => {
    const { ports } = ruleOf({
      egress: [{ toPorts: [{ ports: [{ port: '53' }], rules: { dns } }] }],
    });
    assert(ports !== 'any');
    const [rule] = ports;
    assert(rule !== undefined && rule.dns !== null);
    // Over SCTP nobody asks.
    assert.deepEqual(
      rule.ports.map(({ protocol }) => protocol),
      [6, 17],
    );
    return [rule.dns.matchAll, rule.dns.patterns.map(({ text }) => text)];
  };
  assert.deepEqual(names([]), [true, []]);
  assert.deepEqual(names([{}]), [false, []]);
  assert.deepEqual(names([{ matchPattern: '*' }]), [true, ['*']]);
  assert.deepEqual(names([{ matchPattern: '**.' }]), [true, ['*']]);
  assert.deepEqual(names([{ matchName: 'A.Example' }, { matchName: 'a.example.' }]), [
    false,
    ['a.example.'],
  ]);
  assert.deepEqual(names([{ matchName: 'a.b', matchPattern: '*.c' }]), [false, ['a.b.', '*.c.']]);
  const plain = ruleOf({ egress: [{ toPorts: [{ ports: [{ port: '53' }], rules: {} }] }] });
  assert(plain.ports !== 'any');
  assert.equal(plain.ports[0]?.dns, null);
});

test('toFQDNs', () => {
  const rule = ruleOf({
    egress: [{ toFQDNs: [{ matchName: 'A.B' }, { matchPattern: '*.c' }, { matchName: 'a.b.' }] }],
  });
  assert.deepEqual(rule.peers, []);
  assert.deepEqual(rule.fqdns, [
    { text: 'a.b.', context: 'toFQDNs' },
    { text: '*.c.', context: 'toFQDNs' },
  ]);
  assert.equal(rule.direction, Direction.egress);
});

test('namespace defaulting of peers', () => {
  const key = (selector: unknown, kind?: PolicyKind): string => {
    const { peers } = ruleOf({ ingress: [{ fromEndpoints: [selector] }] }, kind);
    assert(peers !== 'any' && peers[0] !== undefined);
    return peerKey(peers[0]).slice('labels '.length);
  };
  const own = 'k8s:io.kubernetes.pod.namespace In ["shop"]';
  const anyPod = 'k8s:io.kubernetes.pod.namespace Exists []';
  const ccnp = 'CiliumClusterwideNetworkPolicy';
  assert.equal(key({}), own);
  assert.equal(key({ matchLabels: { app: 'a' } }), `k8s:app In ["a"],${own}`);
  assert.equal(key({ matchLabels: { 'k8s:app': 'a' } }), `k8s:app In ["a"],${own}`);
  assert.equal(key({ matchLabels: { 'any:app': 'a' } }), `any:app In ["a"],${own}`);
  assert.equal(
    key({ matchLabels: { 'k8s:io.kubernetes.pod.namespace': 'kube-system' } }),
    'k8s:io.kubernetes.pod.namespace In ["kube-system"]',
  );
  assert.equal(
    key({ matchExpressions: [{ key: 'any:io.kubernetes.pod.namespace', operator: 'Exists' }] }),
    'any:io.kubernetes.pod.namespace Exists []',
  );
  assert.equal(
    key({ matchLabels: { 'io.cilium.k8s.namespace.labels.team': 'a' } }),
    'k8s:io.cilium.k8s.namespace.labels.team In ["a"]',
  );
  assert.equal(key({ matchLabels: { 'reserved:init': '' } }), 'reserved:init In [""]');
  assert.equal(key({}, ccnp), anyPod);
  assert.equal(key({ matchLabels: { app: 'a' } }, ccnp), `k8s:app In ["a"],${anyPod}`);
  assert.equal(
    key({ matchLabels: { 'io.cilium.k8s.namespace.labels.team': 'a' } }, ccnp),
    `k8s:io.cilium.k8s.namespace.labels.team In ["a"],${anyPod}`,
  );
  assert.equal(key({ matchLabels: { 'reserved:host': '' } }, ccnp), 'reserved:host In [""]');
});

test('the subject cannot leave its namespace', () => {
  const own = 'k8s:io.kubernetes.pod.namespace In ["shop"]';
  assert.equal(selectorKey(specOf({ egress: [{}] }).subject), own);
  const stolen = { matchLabels: { app: 'a', 'k8s:io.kubernetes.pod.namespace': 'kube-system' } };
  assert.equal(
    selectorKey(specOf({ endpointSelector: stolen, egress: [{}] }).subject),
    `k8s:app In ["a"],${own}`,
  );
  const clusterwide = specOf({ egress: [{}] }, 'CiliumClusterwideNetworkPolicy');
  assert.equal(selectorKey(clusterwide.subject), '');
  const meta = { matchLabels: { 'io.cilium.k8s.namespace.labels.team': 'a' } };
  assert.equal(
    selectorKey(specOf({ endpointSelector: meta, egress: [{}] }).subject),
    `k8s:io.cilium.k8s.namespace.labels.team In ["a"],${own}`,
  );
});

test('what is legal but odd is said', () => {
  const warning = (spec: Body): string => {
    const parsed = parse({ spec: { endpointSelector: {}, ...spec } });
    assert(parsed.ok);
    return parsed.value.warnings.map(({ path, message }) => `${path} ${message}`).join('\n');
  };
  assert.match(warning({ egressDeny: [{}] }), /egressDeny\[0\] an empty deny rule denies nothing/);
  assert.match(warning({ egress: [{ toEndpoints: [] }] }), /selects no peer/);
  assert.match(warning({ egress: [{ toFQDNs: [{}] }] }), /names nothing/);
  assert.match(warning({ egress: [{ toEntities: ['health'] }] }), /health matches nothing here/);
  assert.match(
    warning({ endpointSelector: { matchLabels: { 'pod-template-hash': 'x' } }, egress: [{}] }),
    /pod-template-hash differs from pod to pod/,
  );
  assert.equal(warning({ egress: [{ toEntities: ['world'] }] }), '');
});
