// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** NetworkPolicy: what is refused, with the fix, and whom a refused one holds. What valid ones mean: network-policy.fuzz.test.ts. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseObject } from '../../k8s/parse-object.ts';
import type { Result } from '../../result.ts';
import type { InvalidPolicy, Policy } from '../model/rule.ts';
import { selectorKey } from '../model/selector.ts';
import { parsePolicy } from '../parse/parse-policy.ts';

type Body = Readonly<Record<string, unknown>>;

function parse(spec: unknown, more: Body = {}): Result<Policy, InvalidPolicy> {
  const metadata = { name: 'p', namespace: 'shop' };
  const object = parseObject({
    ...{ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata, spec },
    ...more,
  });
  assert.ok(object.ok && object.value.kind === 'NetworkPolicy');
  return parsePolicy(object.value);
}

function errorsOf(spec: unknown, more: Body = {}): string {
  const parsed = parse(spec, more);
  return parsed.ok
    ? ''
    : parsed.error.errors.map(({ path, message }) => `${path} ${message}`).join('\n');
}

test('what is refused names the field and the fix', () => {
  const egress = (peer: unknown, ...ports: readonly unknown[]): Body => ({
    podSelector: {},
    egress: [{ to: [peer], ports }],
  });
  const rows: readonly (readonly [spec: unknown, expected: RegExp, more?: Body])[] = [
    [undefined, /^spec is missing/],
    [[], /^spec is a list/],
    [
      { podSelector: {}, endpointSelector: {} },
      /spec.endpointSelector is no known field here: expected podSelector/,
    ],
    [{ podSelector: { matchLabel: {} } }, /spec.podSelector.matchLabel is no known field/],
    [{ podSelector: { matchLabels: { a: 1 } } }, /matchLabels/],
    [{ podSelector: { matchLabels: { 'k8s:app': 'x' } } }, /no source before its name/],
    [
      { podSelector: {}, policyTypes: ['ingress'] },
      /policyTypes\[0\] is "ingress", but must be Ingress or Egress: write \[Ingress\]$/m,
    ],
    [
      { podSelector: {}, policyTypes: ['Ingress, egress'] },
      /must be Ingress or Egress: write \[Ingress, Egress\]$/m,
    ],
    [{ podSelector: {}, policyTypes: ['All'] }, /must be Ingress or Egress$/m],
    [egress({ podSelector: {} }, '80'), /ports\[0\] is the text "80", .* write {port: 80}/],
    [egress({ podSelector: {} }, 80), /ports\[0\] is the number 80, .* write {port: 80}/],
    [
      { podSelector: {}, ingress: [{ to: [] }] },
      /spec.ingress\[0\].to is not supported: ingress rules have from/,
    ],
    [{ podSelector: {}, ingress: [{ from: [{}] }] }, /names nobody: give podSelector/],
    [
      { podSelector: {}, ingress: [{ from: [{ podSelector: null }] }] },
      /selects no peer, because podSelector has no value: give .* {} for all/,
    ],
    [{ podSelector: {}, ingress: [null] }, /ingress\[0\] has nothing behind its dash/],
    [egress({ podSelector: {} }, null), /ports\[0\] has nothing behind its dash/],
    [{ podSelector: { matchLabels: { app: null } } }, /app is null.*give it, or "" for an empty/],
    [{ podSelector: {}, ingres: null }, /spec.ingres is no known field here/],
    [{ podSelector: { matchlabels: null } }, /matchlabels is no known field here/],
    [
      { podSelector: { matchLabels: { 'a/b/c': 'x' } } },
      /"a\/b\/c" is no label key: write name or/,
    ],
    [{ podSelector: { matchLabels: { 'Example.com/a': 'x' } } }, /is no label key.*in lower case/],
    [{ podSelector: { matchLabels: { ['a'.repeat(64)]: 'x' } } }, /is no label key.*at most 63/],
    [
      { podSelector: {}, policyTypes: ['Ingress', 'Ingress', 'Egress'] },
      /policyTypes names a direction twice/,
    ],
    [
      egress({ podSelector: {}, ipBlock: { cidr: '10.0.0.0/8' } }),
      /cannot be combined with selectors/,
    ],
    [egress({ ipBlock: { cidr: '10.0.0.5' } }), /"10.0.0.5" is no prefix: write 10.0.0.5\/32/],
    [egress({ ipBlock: { cidr: 'example.com' } }), /is no prefix: write it like/],
    [egress({ ipBlock: { except: [] } }), /ipBlock.cidr is missing: give a prefix$/m],
    [egress({ ipBlock: { cidr: '10.0.0.0/8', except: ['10.0.0.0/8'] } }), /leaves nothing of/],
    [
      egress({ ipBlock: { cidr: '10.0.0.0/8', except: ['11.0.0.0/8'] } }),
      /11.0.0.0\/8 is not inside/,
    ],
    [egress({ podSelector: {} }, { port: 0 }), /ports\[0\].port/],
    [egress({ podSelector: {} }, { port: '80' }), /write 80 without quotes/],
    [egress({ podSelector: {} }, { port: '80-90' }), /write port: 80 and endPort: 90/],
    [egress({ podSelector: {} }, { port: '*' }), /leave port out for every port/],
    [egress({ podSelector: {} }, { port: '80,90' }), /write an item for each/],
    [egress({ podSelector: {} }, { port: [80, 90] }), /must be one port: write an item for each/],
    [egress({ podSelector: {} }, { port: 'HTTP' }), /at most 15 lower-case letters/],
    [
      egress({ podSelector: {} }, { protocol: 'ANY' }),
      /is not TCP, UDP or SCTP: write an item for/,
    ],
    [egress({ ipBlock: { cidr: 'api.example.com' } }), /names are for toFQDNs of a Cilium/],
    [egress({ ipBlock: { cidr: ['10.0.0.0/8'] } }), /cidr is a list, but must be a text$/m],
    [
      egress({ serviceName: 'x' }),
      /^\S+serviceName is not supported: select the pods behind \S+ Service$/,
    ],
    [egress({ namespace: 'x' }), /select namespaces by a label: .*kubernetes.io\/metadata.name/],
    [egress({ podSelector: {}, ports: [] }), /ports is not supported: it stands one level up/],
    [egress({ namespaceSelector: 'x' }), /write {matchLabels: {kubernetes.io\/metadata.name: x}}/],
    [{ podSelector: {}, ingress: [{ action: 'Deny' }] }, /only allows: .*ingressDeny/],
    [{ podSelector: {}, ingress: [{ podSelector: {} }] }, /put it in the list from/],
    [
      { podSelector: {}, ingress: { from: [] } },
      /ingress is a mapping.*put a dash before its items/,
    ],
    [
      { podSelector: {}, ingress: {} },
      /ingress is a mapping, but must be a list: \[\] is the empty/,
    ],
    [{ podSelector: {}, policyTypes: 'Ingress' }, /must be a list: write \[Ingress\]/],
    [{ podSelector: { app: 'x' } }, /podSelector.app is not supported: put it under matchLabels/],
    [{ podSelector: { matchLabels: { app: '*' } } }, /operator Exists of matchExpressions is any/],
    [
      { podSelector: { matchExpressions: [{ key: 'a', operator: 'In', values: 'x' }] } },
      /^\S+values is the text "x", but must be a list: write \[x\]$/,
    ],
    [egress({ podSelector: {} }, { port: 'http', endPort: 90 }), /a named port is no range/],
    [egress({ podSelector: {} }, { port: 90, endPort: 80 }), /80 is below port 90/],
    [egress({ podSelector: {} }, { endPort: 80 }), /endPort needs a port/],
    [egress({ podSelector: {} }, { port: 80, protocol: 'ICMP' }), /"ICMP" is not TCP, UDP or SCTP/],
    [{ podSelector: {} }, /ingress stands beside spec.*indent it/, { ingress: [] }],
    [{ podSelector: {} }, /specs is no known field/, { specs: [] }],
    [
      { podSelector: {} },
      /metadata.name "My_Policy" is no name/,
      { metadata: { name: 'My_Policy', namespace: 'shop' } },
    ],
    [
      { podSelector: {} },
      /metadata.namespace "Shop" is no name of a namespace/,
      { metadata: { name: 'p', namespace: 'Shop' } },
    ],
    [
      { podSelector: {} },
      /apiVersion .*must be networking.k8s.io\/v1/,
      { apiVersion: 'extensions/v1beta1' },
    ],
  ];
  for (const [spec, expected, more] of rows) assert.match(errorsOf(spec, more), expected);
});

test('null is what the API server drops', () => {
  const parsed = parse({ podSelector: null, ingress: [{ from: null, ports: null }], egress: null });
  assert.ok(parsed.ok, parsed.ok ? '' : JSON.stringify(parsed.error.errors));
  const block = { ipBlock: { cidr: '10.0.0.0/8', except: null } };
  assert.equal(errorsOf({ podSelector: {}, ingress: [{ from: [block] }] }), '');
  const expression = { key: 'a', operator: 'Exists', values: null };
  for (const selector of [
    { matchLabels: null },
    { matchLabels: null, matchExpressions: null },
    { matchExpressions: [expression] },
  ]) {
    const peers = [{ podSelector: selector, ipBlock: null }, { namespaceSelector: selector }];
    assert.equal(errorsOf({ podSelector: selector, ingress: [{ from: peers }] }), '');
  }
  const [spec] = parsed.value.specs;
  assert.deepEqual([spec?.hasIngress, spec?.hasEgress], [true, false]);
  assert.equal(spec?.rules[0]?.peers, 'any');
});

test('rules of a direction that policyTypes does not name have no effect, and that is said', () => {
  const parsed = parse({ podSelector: {}, policyTypes: ['Ingress'], egress: [{}] });
  assert.ok(parsed.ok);
  assert.match(
    parsed.value.warnings[0]?.message ?? '',
    /has no effect: policyTypes does not name Egress/,
  );
  assert.deepEqual(parsed.value.specs[0]?.rules, []);
});

test('bits beyond the length of a prefix are taken as older API servers took them, and said', () => {
  const block = { cidr: '10.1.2.3/8', except: ['10.9.0.1/16'] };
  const parsed = parse({ podSelector: {}, ingress: [{ from: [{ ipBlock: block }] }] });
  assert.ok(parsed.ok);
  assert.deepEqual(
    parsed.value.warnings.map(({ message }) => message),
    [
      '10.1.2.3/8 means 10.0.0.0/8: write that, or 10.1.2.3/32 for the address alone',
      '10.9.0.1/16 means 10.9.0.0/16: write that, or 10.9.0.1/32 for the address alone',
    ],
  );
});

test('of a podSelector that cannot be read whole the rest still selects', () => {
  const rows: readonly (readonly [selector: Body, subject: RegExp])[] = [
    [
      { matchLabels: { app: 'x', version: 1.1 } },
      /^k8s:app In \["x"\],k8s:io\S+ .*,k8s:version Exists/,
    ],
    [
      { matchLabels: { app: 'x' }, matchExpressions: [{ key: 'a', operator: 'Equals' }] },
      /^k8s:app In \["x"\],k8s:io\S+ In \["shop"\]$/,
    ],
    [{ matchLabels: { 'pod-template-hash': '1', tier: 2 } }, /k8s:pod:pod-template-hash In/],
  ];
  for (const [podSelector, subject] of rows) {
    const parsed = parse({ podSelector, ingress: [] });
    assert.ok(!parsed.ok);
    assert.match(selectorKey(parsed.error.hold[0]?.subject ?? { requirements: [] }), subject);
    assert.equal(parsed.error.holdScope, 'superset');
  }
});

test('a namespace that cannot be called so may be any: the pods of all are held', () => {
  const spec = { podSelector: { matchLabels: { app: 'x' } }, ingress: [] };
  const parsed = parse(spec, { metadata: { name: 'p', namespace: 'Shop' } });
  assert.ok(!parsed.ok);
  assert.equal(
    selectorKey(parsed.error.hold[0]?.subject ?? { requirements: [] }),
    'k8s:app In ["x"]',
  );
});

test('a refused policy holds the pods that it means, in the directions that it means', () => {
  const bad = [{ from: [{}] }];
  const rows: readonly (readonly [
    spec: Body,
    subject: string,
    directions: string,
    scope: string,
  ])[] = [
    [{ podSelector: { matchLabels: { app: 'x' } }, ingress: bad }, 'app', 'ingress', 'selected'],
    [
      { podSelector: {}, policyTypes: ['Egress'], egress: [{ to: [{}] }] },
      '',
      'egress',
      'selected',
    ],
    [{ podSelector: {}, egress: [{ to: [{}] }] }, '', 'ingress egress', 'selected'],
    [{ podSelector: { matchLabels: 5 }, ingress: bad }, '', 'ingress', 'superset'],
    [{ podSelector: {}, policyTypes: ['Both'] }, '', 'ingress egress closed', 'selected'],
    [{ podSelector: {}, policyTypes: 'Egress' }, '', 'egress', 'selected'],
    [{ podSelector: {}, policyTypes: 'Ingress, Egress' }, '', 'ingress egress closed', 'selected'],
    [{ podSelector: {}, unknown: 1 }, '', 'ingress egress closed', 'selected'],
  ];
  for (const [spec, subject, directions, scope] of rows) {
    const parsed = parse(spec);
    assert.ok(!parsed.ok);
    const { hold, holdScope } = parsed.error;
    const [held] = hold;
    assert.ok(held !== undefined && hold.length === 1);
    const key = selectorKey(held.subject);
    assert.match(key, /io.kubernetes.pod.namespace In \["shop"\]/);
    assert.equal(key.includes('k8s:app In'), subject === 'app', key);
    const seen = [
      ...(held.hasIngress ? ['ingress'] : []),
      ...(held.hasEgress ? ['egress'] : []),
      ...(held.rules.length > 0 ? ['closed'] : []),
    ];
    assert.equal(seen.join(' '), directions, JSON.stringify(spec));
    assert.equal(holdScope, scope, JSON.stringify(spec));
  }
});
