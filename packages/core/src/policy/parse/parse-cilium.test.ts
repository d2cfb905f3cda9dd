// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Body, errorsOf, many, parse, ruleOf, specOf } from '../../../test/policy-fixture.ts';
import type { PolicyKind } from '../../k8s/objects.ts';
import { Direction } from '../model/kernel-numbers.ts';
import { peerKey } from '../model/peer.ts';
import { selectorKey } from '../model/selector.ts';

const web = { endpointSelector: { matchLabels: { app: 'web' } } };

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
  const rule = { toFQDNs: names, toPorts: [{ ports: [{ port: '443' }] }] };
  const beyond = errorsOf({ egress: [rule, rule] }).filter((line) => line.includes('beyond'));
  assert.equal(beyond.length, 1, 'said once, where there is no room first');
  assert.match(beyond[0] ?? '', /egress\[0\]\.toFQDNs goes beyond 20000 items/);
  const errors = errorsOf({ egress: Array.from({ length: 100 }, () => ({ x: 1 })) });
  assert.equal(errors.length, 21);
  assert.equal(errors.at(-1)?.trim(), 'and 80 more errors');
  const keys = Array.from({ length: 20_001 }, (_, index) => `k${index}`);
  const selectors: readonly Body[] = [
    { matchLabels: Object.fromEntries(keys.map((key) => [key, ''])) },
    { matchExpressions: keys.map((key) => ({ key, operator: 'DoesNotExist' })) },
    { matchExpressions: [{ key: 'app', operator: 'NotIn', values: keys }] },
  ];
  for (const selector of selectors) {
    const egress = [{ toEndpoints: [selector, selector] }];
    assert.match(
      errorsOf({ egress }).join('\n'),
      /^\S+toEndpoints\[0\] goes beyond 20000 labels[^\n]*$/,
    );
    const subject = errorsOf({ endpointSelector: selector, egress: [{}] });
    assert.match(subject.join('\n'), /^spec.endpointSelector goes beyond 20000 labels[^\n]*$/);
  }
});

test('what an invalid policy holds: the pods it picks, in the directions it names', () => {
  const rows: [name: string, body: Body, want: readonly string[]][] = [
    ['egress', { spec: { endpointSelector: {}, egress: [{ icmps: [{}] }] } }, ['egress']],
    ['an unknown field', { spec: { endpointSelector: {}, egress: [{ x: 1 }] } }, ['egress closed']],
    ['ingress: []', { spec: { endpointSelector: {}, ingress: [] } }, ['ingress']],
    [
      'deny section',
      { spec: { endpointSelector: {}, ingressDeny: [{ x: 1 }] } },
      ['ingress closed'],
    ],
    [
      'both',
      { spec: { endpointSelector: {}, ingress: [{}], egress: [{ icmps: [] }] } },
      ['ingress egress'],
    ],
    [
      'a mistyped section',
      { spec: { endpointSelector: {}, egres: [{}] } },
      ['ingress egress closed'],
    ],
    [
      'default deny switched off',
      {
        spec: {
          endpointSelector: {},
          egress: [{ toServices: [] }],
          enableDefaultDeny: { egress: false },
        },
      },
      ['egress'],
    ],
    [
      'two specs',
      {
        specs: [
          { endpointSelector: {}, egress: [{}] },
          { endpointSelector: {}, ingress: [{ fromGroups: [{}] }] },
        ],
      },
      ['egress', 'ingress'],
    ],
    ['no selector', { spec: { egress: [{}] } }, ['egress']],
    [
      'a section and a mistyped one',
      { spec: { endpointSelector: {}, egress: [{}], ingres: [{}] } },
      ['ingress egress closed'],
    ],
    [
      'a section beside spec',
      { spec: { ...web, egress: [{}] }, ingress: [{}] },
      ['ingress egress'],
    ],
    ['names', { spec: { ...web, egress: [{ toPorts: [{ rules: {} }] }] } }, ['egress closed']],
    ['a section of no list', { spec: { ...web, egress: {} } }, ['egress closed']],
    ['no body', {}, ['ingress egress closed']],
    ['nodes', { spec: { nodeSelector: {}, egress: [{}] } }, []],
  ];
  for (const [name, body, want] of rows) {
    const parsed = parse(body);
    assert(!parsed.ok, name);
    const got = parsed.error.hold.map((spec) => {
      assert.equal(spec.hasIngress, spec.denyIngress);
      assert.equal(spec.hasEgress, spec.denyEgress);
      assert(spec.rules.every(({ action, peers }) => action === 'deny' && peers === 'any'));
      const words = [spec.hasIngress && 'ingress', spec.hasEgress && 'egress'];
      return [...words, spec.rules.length > 0 && 'closed'].filter(Boolean).join(' ');
    });
    assert.deepEqual(got, want, name);
  }
});

test('whom an invalid policy holds: no less than it selects, as far as that can be read', () => {
  const own = 'k8s:io.kubernetes.pod.namespace In ["shop"]';
  const app = 'k8s:app In ["a"]';
  const hasTier = 'k8s:tier Exists []';
  const expression = (key: unknown, operator: unknown, values?: unknown): Body => ({
    matchExpressions: [{ key, operator, ...(values === undefined ? {} : { values }) }],
  });
  const rows: [selector: unknown, want: string][] = [
    [{ matchLabels: { app: 'a' } }, app],
    [{ matchLabels: { app: 'a', tier: 1 } }, `${app},${hasTier}`],
    [{ matchLabels: { tier: null } }, hasTier],
    [{ matchLabels: { tier: 'not a value' } }, hasTier],
    [{ matchLabels: { 'no key!': 'a', app: 'a' } }, app],
    [{ matchLabels: 3 }, ''],
    [{ app: 'a' }, ''],
    [null, ''],
    [[], ''],
    [expression('tier', 'In', [1, 'b']), hasTier],
    [expression('tier', 'In'), hasTier],
    [expression('tier', 'in', ['a']), ''],
    [expression('tier', 'NotIn', [1]), ''],
    [expression('tier', 'Exists', ['a']), hasTier],
    [expression('tier', 'DoesNotExist', ['a']), ''],
    [expression(5, 'Exists'), ''],
    [{ matchLabels: { 'reserved:health': '' } }, 'reserved:health Exists []'],
    [
      { matchLabels: { app: 'a', 'k8s:io.kubernetes.pod.namespace': 'other', x: 1 } },
      `${app},k8s:x Exists []`,
    ],
  ];
  for (const [endpointSelector, want] of rows) {
    const spec = { endpointSelector, egress: [{ x: 1 }] };
    const text = JSON.stringify(endpointSelector);
    const parsed = parse({ spec });
    assert(!parsed.ok);
    const [held] = parsed.error.hold;
    assert(held !== undefined, text);
    const inNamespace = [...(want === '' ? [] : want.split(/,(?=k8s:)/)), own].sort().join();
    assert.equal(selectorKey(held.subject), inNamespace, text);
    const clusterwide = parse({ spec }, 'CiliumClusterwideNetworkPolicy');
    assert(!clusterwide.ok);
    const [everywhere] = clusterwide.error.hold;
    if (want === '') assert.equal(clusterwide.error.holdScope, 'unknown', text);
    else if (!text.includes('pod.namespace')) {
      assert(everywhere !== undefined, text);
      assert.equal(selectorKey(everywhere.subject), want, text);
    }
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
    // Over SCTP there are no queries.
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
    warning({ ingress: [{ fromEntities: ['ingress'] }] }),
    /ingress matches nothing here, so traffic that Cilium's Ingress or Gateway brings/,
  );
  const elsewhere = [
    { ingressDeny: [{ fromEntities: ['ingress'] }] },
    { egress: [{ toEntities: ['ingress'] }] },
    { egressDeny: [{ toEntities: ['ingress'] }] },
  ];
  for (const spec of elsewhere) assert.match(warning(spec), /ingress matches nothing here$/m);
  assert.match(
    warning({ endpointSelector: { matchLabels: { 'pod-template-hash': 'x' } }, egress: [{}] }),
    /pod-template-hash is no part of identity/,
  );
  assert.match(
    warning({ egress: [{ toPorts: [{ ports: [{ port: '443', protocol: 'tcp' }] }] }] }),
    /ports\[0\]\.protocol "tcp" is refused by an API server: write TCP/,
  );
  for (const label of ['kubernetes.io/metadata.name', 'k8s:io.kubernetes.podNamespace']) {
    assert.match(
      warning({ ingress: [{ fromEndpoints: [{ matchLabels: { [label]: 'x' } }] }] }),
      /for a namespace by its name write k8s:io.kubernetes.pod.namespace/,
    );
  }
  assert.match(
    warning({ egress: [{ toFQDNs: [{ matchName: '.a.test' }] }] }),
    /matchName has an empty label, so it matches nothing: write matchPattern "\*\.a\.test"/,
  );
  assert.match(
    warning({ egress: [{ toFQDNs: [{ matchPattern: 'a..*' }] }] }),
    /matchPattern has an empty label, so it matches nothing: remove a dot/,
  );
  assert.equal(warning({ egress: [{ toFQDNs: [{ matchName: '.' }, { matchName: 'a.' }] }] }), '');
  assert.equal(warning({ egress: [{ toEntities: ['world'] }] }), '');
});

test('a name longer than any DNS name is legal, matches nothing, and is said', () => {
  const label = 'a'.repeat(63);
  const long = [label, label, label, label].join('.');
  const tables: readonly (readonly [string, number])[] = [
    [long.slice(0, 254), 1],
    [`${long.slice(0, 253)}.`, 1],
    [long, 0],
  ];
  for (const [name, count] of tables) {
    for (const field of ['matchName', 'matchPattern']) {
      const dns = [{ [field]: name }];
      const toPorts = [{ ports: [{ port: '53', protocol: 'UDP' }], rules: { dns } }];
      for (const element of [{ toFQDNs: dns }, { toEndpoints: [{}], toPorts }]) {
        const parsed = parse({ spec: { endpointSelector: {}, egress: [element] } });
        assert(parsed.ok);
        const [rule] = parsed.value.specs[0]?.rules ?? [];
        assert(rule !== undefined);
        const patterns =
          rule.ports === 'any' ? rule.fqdns : (rule.ports[0]?.dns?.patterns ?? rule.fqdns);
        assert.equal(patterns.length, count, `${field} of ${name.length} characters`);
        const said = parsed.value.warnings.map(({ message }) => message).join();
        assert.equal(/longer than any DNS name/.test(said), count === 0);
      }
    }
  }
});
