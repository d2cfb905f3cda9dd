// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * ClusterNetworkPolicy: what is read, what is refused with the fix, what fails closed, and whom a refused one holds. What the rules
 * mean together: judge-model.fuzz.test.ts.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseObject } from '../../k8s/parse-object.ts';
import type { Result } from '../../result.ts';
import { Direction, Protocol } from '../model/kernel-numbers.ts';
import { peerKey } from '../model/peer.ts';
import {
  formatPolicyRef,
  type InvalidPolicy,
  type Policy,
  type PolicySpec,
} from '../model/rule.ts';
import { selectorKey } from '../model/selector.ts';
import { parsePolicy } from '../parse/parse-policy.ts';
import { coarseHoldOf, holdOfPolicy } from '../parse/policy-hold.ts';

type Body = Readonly<Record<string, unknown>>;

const api = 'policy.networking.k8s.io';
const all = { namespaces: {} };
const shop = { namespaces: { matchLabels: { 'kubernetes.io/metadata.name': 'shop' } } };
const base = { tier: 'Admin', priority: 10, subject: all };
const egress = (rule: Body): Body => ({
  ...base,
  egress: [{ action: 'Deny', to: [all], ...rule }],
});
const to = (...peers: readonly unknown[]): Body => egress({ to: peers });
const protocols = (...items: readonly unknown[]): Body => egress({ protocols: items });
const tcp = (destinationPort: unknown): Body => protocols({ tcp: { destinationPort } });

function object(spec: unknown, more: Body = {}): Result<Policy, InvalidPolicy> {
  const parsed = parseObject({
    ...{ apiVersion: `${api}/v1beta1`, kind: 'ClusterNetworkPolicy', metadata: { name: 'p' } },
    ...{ spec, ...more },
  });
  assert.ok(parsed.ok && parsed.value.kind === 'ClusterNetworkPolicy', JSON.stringify(parsed));
  return parsePolicy(parsed.value);
}

function policy(spec: unknown, more: Body = {}): Policy {
  const parsed = object(spec, more);
  assert.ok(parsed.ok, parsed.ok ? '' : JSON.stringify(parsed.error.errors));
  return parsed.value;
}

function only(spec: unknown): PolicySpec {
  const [first] = policy(spec).specs;
  assert.ok(first !== undefined);
  return first;
}

function errorsOf(spec: unknown, more: Body = {}): string {
  const parsed = object(spec, more);
  return parsed.ok
    ? ''
    : parsed.error.errors.map(({ path, message }) => `${path} ${message}`).join('\n');
}

const warningsOf = (spec: unknown): string =>
  policy(spec)
    .warnings.map(({ path, message }) => `${path} ${message}`)
    .join('\n');

test('tier, priority, subject, and the rules in their order', () => {
  for (const version of ['v1beta1', 'v1alpha2']) {
    const { ref, specs, warnings } = policy(
      {
        ...{ tier: 'Baseline', priority: 0, subject: shop },
        ingress: [{ action: 'Pass', from: [all] }],
        egress: [
          { name: 'web', action: 'Accept', to: [shop] },
          { action: 'Deny', to: [{ networks: ['0.0.0.0/0', '::/0'] }] },
        ],
      },
      { apiVersion: `${api}/${version}` },
    );
    assert.equal(formatPolicyRef(ref), 'ClusterNetworkPolicy/p');
    assert.deepEqual(warnings, []);
    const [spec] = specs;
    assert.ok(spec !== undefined && specs.length === 1);
    assert.deepEqual(spec.tier, { name: 'baseline', priority: 0 });
    assert.deepEqual(
      [spec.hasIngress, spec.hasEgress, spec.denyIngress, spec.denyEgress],
      [true, true, false, false],
    );
    assert.deepEqual(
      spec.rules.map(({ direction, action, index, path }) => [direction, action, index, path]),
      [
        [Direction.ingress, 'pass', 0, 'spec.ingress[0]'],
        [Direction.egress, 'allow', 0, 'spec.egress[0]'],
        [Direction.egress, 'deny', 1, 'spec.egress[1]'],
      ],
    );
    const last = spec.rules.at(-1);
    assert.ok(last !== undefined && last.peers !== 'any');
    assert.deepEqual(last.peers.map(peerKey), ['block 0.0.0.0/0', 'block ::/0']);
  }
});

test('subjects and peers select pods, and nothing that has no labels', () => {
  const keyOf = (subject: unknown): string =>
    selectorKey(only({ ...base, subject, egress: [{ action: 'Deny', to: [all] }] }).subject);
  const name = 'k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name';
  const pod = 'k8s:io.kubernetes.pod.namespace';
  assert.match(keyOf(all), new RegExp(`${pod}.*Exists`));
  assert.match(keyOf(shop), new RegExp(name.replaceAll('.', '\\.')));
  const pods = { namespaceSelector: {}, podSelector: { matchLabels: { app: 'web' } } };
  assert.match(keyOf({ pods }), /app/);
  // The API requires podSelector alone; the field is optional, and an absent one selects what an empty one does.
  const { podSelector } = pods;
  assert.equal(keyOf({ pods: { podSelector } }), keyOf({ pods }));
  assert.equal(keyOf({ pods: { namespaceSelector: null, podSelector } }), keyOf({ pods }));
  const peer = only(to({ pods })).rules[0]?.peers;
  assert.ok(peer !== undefined && peer !== 'any');
  assert.equal(`labels ${keyOf({ pods })}`, peer.map(peerKey)[0]);
});

test('protocols: numbers, ranges and names', () => {
  const rule = only(
    protocols(
      { tcp: { destinationPort: { number: 80 } } },
      { udp: { destinationPort: { range: { start: 1000, end: 1010 } } } },
      { sctp: { destinationPort: { number: 7 } } },
      { destinationNamedPort: 'web' },
    ),
  ).rules[0];
  assert.deepEqual(rule?.ports, [
    {
      ports: [
        { protocol: Protocol.tcp, first: 80, last: 80 },
        { protocol: Protocol.udp, first: 1000, last: 1010 },
        { protocol: Protocol.sctp, first: 7, last: 7 },
      ],
      dns: null,
    },
  ]);
  assert.deepEqual(
    rule?.namedPorts?.map(({ name }) => name),
    ['TCP/web', 'UDP/web', 'SCTP/web'],
  );
  assert.equal(only(egress({})).rules[0]?.ports, 'any');
});

test('what is refused names the field and the fix', () => {
  const many = (length: number): readonly unknown[] => Array.from({ length }, () => all);
  const rows: readonly (readonly [spec: unknown, expected: RegExp, more?: Body])[] = [
    [undefined, /^spec is missing/],
    [[], /^spec is a list/],
    [{ ...base, tier: undefined }, /spec.tier is missing: write Admin or Baseline/],
    [{ ...base, tier: 'admin' }, /spec.tier is "admin", but must be Admin or Baseline/],
    [{ ...base, tier: 'constructor' }, /must be Admin or Baseline/],
    [{ ...base, priority: undefined }, /spec.priority is missing: give a number of 0 to 1000/],
    [{ ...base, priority: 1001 }, /spec.priority .*whole number of 0 to 1000/],
    [{ ...base, priority: '5' }, /spec.priority .*whole number/],
    [{ ...base, priority: -1 }, /spec.priority .*whole number/],
    [{ ...base, subject: undefined }, /spec.subject is missing: write namespaces: {}/],
    [{ ...base, subject: {} }, /spec.subject selects nobody: write/],
    [
      { ...base, subject: { namespaces: {}, pods: {} } },
      /spec.subject has both namespaces and pods/,
    ],
    [{ ...base, subject: { pods: {} } }, /pods.podSelector is missing: {} selects all/],
    [
      { ...base, subject: { namespaces: { namespaceSelector: {} } } },
      /this is a selector itself: write its matchLabels here/,
    ],
    [{ ...base, subject: { podSelector: {} } }, /write pods: {podSelector: ...}/],
    [{ ...base, subject: { matchLabels: {} } }, /put it under namespaces, or under podSelector/],
    [
      to({ namespaces: { notSameLabels: ['tenant'] } }),
      /the API has it no more: write a policy for each value of the label/,
    ],
    [
      { ...base, subject: { pods: { podSelector: {}, namespaceSelector: {}, x: 1 } } },
      /pods.x is no known field here/,
    ],
    [{ ...base, subject: { namespaces: 'x' } }, /write {matchLabels: .*metadata.name: x}}/],
    [{ ...base, podSelector: {} }, /spec.podSelector is not supported: write subject/],
    [{ ...base, policyTypes: [] }, /spec.policyTypes is not supported: .*remove it/],
    [{ ...base, extra: 1 }, /spec.extra is no known field here/],
    [{ ...base, egress: {} }, /spec.egress is a mapping/],
    [{ ...base, egress: many(26) }, /spec.egress has 26 items, more than 25: split it/],
    [egress({ to: many(26) }), /egress\[0\].to has 26 items/],
    [egress({ to: [] }), /egress\[0\].to names nobody: give at least one peer/],
    [egress({ to: undefined }), /egress\[0\].to names nobody/],
    [egress({ to: null }), /egress\[0\].to names nobody/],
    [egress({ to: 'x' }), /egress\[0\].to is the text "x"/],
    [egress({ from: [all] }), /egress\[0\].from is not supported: egress rules have to/],
    [egress({ ports: [] }), /ports is not supported: write protocols/],
    [egress({ action: 'Allow' }), /action is .*must be Accept, Deny or Pass: write Accept/],
    [egress({ action: undefined }), /action is missing, but must be Accept/],
    [egress({ name: 'x'.repeat(101) }), /name is longer than 100 characters/],
    [to({ namespaces: {}, networks: ['10.0.0.0/8'] }), /write a peer for each/],
    [to('x'), /to\[0\] is the text "x", but must be a mapping/],
    [to({ networks: [] }), /networks names nobody/],
    [to({ networks: ['10.0.0.5'] }), /write 10.0.0.5\/32/],
    [to({ networks: [7] }), /networks\[0\] is the number 7/],
    [to({ networks: ['example.com'] }), /is no prefix/],
    [
      to({ networks: ['10.0.0.0/8', '::/0', '10.0.0.0/8'] }),
      /networks\[2\] repeats .*networks\[0\], which the API refuses: remove one/,
    ],
    [protocols(80), /protocols\[0\] is the number 80, .*write tcp: {destinationPort/],
    [egress({ protocols: [] }), /protocols is empty: remove it for every port/],
    [
      protocols({ tcp: { destinationPort: { number: 1 } }, udp: {} }),
      /has tcp and udp: write an item for each/,
    ],
    [tcp(80), /write {number: 80}/],
    [tcp({ number: 0 }), /number .*whole number of 1 to 65535/],
    [tcp({ number: 1, range: { start: 1, end: 2 } }), /has number and range/],
    [tcp({ range: { start: 9, end: 9 } }), /for port 9 alone write number: 9/],
    [tcp({ range: { start: 9 } }), /range.end is missing/],
    [protocols({ destinationNamedPort: '80' }), /write tcp: {destinationPort: {number: 80}}/],
    [protocols({ destinationNamedPort: 'HTTP' }), /is no name of a port/],
    [
      egress({ to: [{ networks: ['::/0'] }], protocols: [{ destinationNamedPort: 'web' }] }),
      /networks have no named ports: write the numbers/,
    ],
    [base, /apiVersion is .*must be \S+v1beta1 or \S+v1alpha2/, { apiVersion: `${api}/v1` }],
    [base, /^specs is no known field here/, { specs: [] }],
    [base, /^tier stands beside spec/, { tier: 'Admin' }],
  ];
  for (const [spec, expected, more] of rows) {
    assert.match(errorsOf(spec, more), expected, JSON.stringify(spec));
  }
});

test('a peer or protocol that is not known fails closed, and is named', () => {
  const rows: readonly (readonly [rule: Body, warning: RegExp])[] = [
    [{ to: [{ nodes: {} }] }, /to\[0\].nodes is no field .*: write networks with the addresses/],
    [{ to: [all, { domainNames: ['a.b'] }] }, /to\[1\].domainNames .*write toFQDNs/],
    [{ to: [{ sameNamespace: {} }] }, /write a policy for each namespace/],
    [{ to: [{ services: {} }] }, /services .*write namespaces or pods or networks/],
    [{ to: [{}] }, /to\[0\] has no field, or one that the definition/],
    [{ to: [{ namespaces: {}, later: 1 }] }, /to\[0\].later is no field that this version/],
    [{ protocols: [{}] }, /protocols\[0\] has no field/],
    [{ protocols: [{ icmp: {} }] }, /protocols\[0\].icmp is no field .*without protocols includes/],
    [{ protocols: [{ tcp: {} }] }, /protocols\[0\].tcp has no field/],
    [{ protocols: [{ tcp: { flags: 1 } }] }, /tcp.flags is no field/],
    [{ protocols: [{ tcp: { destinationPort: {} } }] }, /destinationPort has no field/],
    [{ protocols: [{ portNumber: { port: 80 } }] }, /portNumber .*write tcp: {destinationPort/],
  ];
  for (const [rule, warning] of rows) {
    for (const action of ['Deny', 'Pass']) {
      const spec = egress({ ...rule, action });
      assert.deepEqual(
        only(spec).rules.map((each) => [each.action, each.peers, each.ports, each.namedPorts]),
        [['deny', 'any', 'any', undefined]],
      );
      assert.match(warningsOf(spec), warning);
      assert.match(warningsOf(spec), /so this rule denies everything: /);
    }
    const spec = egress({ ...rule, action: 'Accept' });
    assert.deepEqual(only(spec).rules, []);
    assert.match(warningsOf(spec), /so this rule accepts nothing: /);
  }
  const ingress = { ...base, ingress: [{ action: 'Deny', from: [{ networks: ['::/0'] }] }] };
  assert.equal(only(ingress).rules[0]?.peers, 'any');
  assert.match(warningsOf(ingress), /networks is for egress rules alone/);
});

test('legal oddities', () => {
  assert.match(warningsOf(base), /has no effect: it has neither ingress nor egress/);
  const bits = to({ networks: ['10.0.0.1/8'] });
  assert.match(warningsOf(bits), /10.0.0.1\/8 means 10.0.0.0\/8: write that/);
  const nulls = egress({ protocols: null, name: null });
  assert.equal(only(nulls).rules[0]?.ports, 'any');
});

interface HoldRow {
  readonly spec: unknown;
  readonly scope: InvalidPolicy['holdScope'];
  /** Tier, priority, and the directions that are denied. */
  readonly held: string;
  readonly more?: Body;
}

test('an invalid object holds the pods of its subject, in its tier, where it may have denied', () => {
  const bad = { action: 'Deny', to: [all], x: 1 };
  const rows: readonly HoldRow[] = [
    { spec: { ...base, egress: [bad] }, scope: 'selected', held: 'admin 10 egress' },
    { spec: { ...base, ingress: [bad] }, scope: 'selected', held: 'admin 10 ingress' },
    {
      spec: { ...base, tier: 'Baseline', egress: [bad] },
      ...{ scope: 'selected', held: 'baseline 10 egress' },
    },
    { spec: { ...base, tier: 'x', egress: [bad] }, scope: 'selected', held: 'admin 10 egress' },
    { spec: { ...base, priority: 'x', egress: [bad] }, scope: 'selected', held: 'admin 0 egress' },
    {
      spec: { ...base, egress: [bad], x: 1 },
      ...{ scope: 'selected', held: 'admin 10 ingress egress' },
    },
    { spec: { ...base, egress: 'x' }, scope: 'selected', held: 'admin 10 egress' },
    { spec: { ...base, x: 1 }, scope: 'selected', held: 'admin 10 ingress egress' },
    { spec: { ...base, egress: [{ ...bad, action: 'Accept' }] }, scope: 'accepts', held: '' },
    {
      spec: { ...base, egress: [{ ...bad, action: 'Pass' }] },
      ...{ scope: 'selected', held: 'admin 10 egress' },
    },
    { spec: { ...base, subject: {}, egress: [bad] }, scope: 'unknown', held: '' },
    { spec: undefined, scope: 'unknown', held: '' },
    {
      spec: { ...base, subject: { namespaces: null, pods: { podSelector: {} } }, egress: [bad] },
      ...{ scope: 'selected', held: 'admin 10 egress' },
    },
    {
      spec: { ...base, subject: { namespaces: { matchLabels: { a: 7 } } }, egress: [bad] },
      ...{ scope: 'superset', held: 'admin 10 egress' },
    },
    {
      spec: {
        ...base,
        subject: { pods: { namespaceSelector: {}, podSelector: { matchLabels: 7 } } },
        egress: [bad],
      },
      ...{ scope: 'unknown', held: '' },
    },
    {
      spec: { ...base, egress: [{ action: 'Accept', to: [all] }] },
      ...{ scope: 'accepts', held: '', more: { apiVersion: `${api}/v7` } },
    },
  ];
  for (const { spec, scope, held, more } of rows) {
    const parsed = object(spec, more);
    assert.ok(!parsed.ok, JSON.stringify(spec));
    const { hold, holdScope } = parsed.error;
    const texts = hold.map((each) => {
      assert.deepEqual([each.denyIngress, each.denyEgress], [false, false]);
      const directions = each.rules.map(({ direction, action, peers, ports }) => {
        assert.deepEqual([action, peers, ports], ['deny', 'any', 'any']);
        return direction === Direction.ingress ? 'ingress' : 'egress';
      });
      return [each.tier?.name, each.tier?.priority, ...directions].join(' ');
    });
    assert.deepEqual([holdScope, texts.join(', ')], [scope, held], JSON.stringify(spec));
  }
});

test('one that cannot be carried, or that a bug meets, is held alike', () => {
  const spec = {
    ...{ ...base, tier: 'Baseline' },
    ingress: [{ action: 'Accept', from: [all] }],
    egress: [{ action: 'Pass', to: [all] }],
  };
  const [held, ...others] = holdOfPolicy(policy(spec)).hold;
  assert.ok(held !== undefined && others.length === 0);
  assert.deepEqual([held.tier?.name, held.hasIngress, held.hasEgress], ['baseline', false, true]);
  const raw = { apiVersion: `${api}/v1beta1`, kind: 'ClusterNetworkPolicy', spec };
  const parsed = parseObject({ ...raw, metadata: { name: 'p' } });
  assert.ok(parsed.ok && parsed.value.kind === 'ClusterNetworkPolicy');
  const [coarse] = coarseHoldOf(parsed.value).hold;
  assert.deepEqual([coarse?.tier?.name, coarse?.rules.length], ['baseline', 2]);
});

test('which objects are of the kind', () => {
  const spec = egress({});
  const metadata = { name: 'p', namespace: 'shop' };
  const rows: readonly (readonly [apiVersion: unknown, kind: unknown, isOurs: boolean])[] = [
    [`${api}/v1beta1`, 'ClusterNetworkPolicy', true],
    [`${api}/v1alpha1`, 'ClusterNetworkPolicy', true],
    [`${api}/v1beta1`, 'clusternetworkpolicy', true],
    [`${api}/v1beta1`, 'ClusterNetworkPolcy', true],
    [`${api}/v1beta1`, undefined, true],
    [undefined, 'ClusterNetworkPolicy', true],
    [undefined, undefined, true],
    ['crd.antrea.io/v1beta1', 'ClusterNetworkPolicy', false],
    ['networking.k8s.aws/v1alpha1', 'ClusterNetworkPolicy', false],
  ];
  for (const [apiVersion, kind, isOurs] of rows) {
    const parsed = parseObject({ apiVersion, kind, metadata, spec });
    assert.ok(parsed.ok, `${String(apiVersion)} ${String(kind)}`);
    const isRead = parsed.value.kind === 'ClusterNetworkPolicy';
    assert.equal(isRead, isOurs, `${String(apiVersion)} ${String(kind)}`);
    if (isRead) assert.equal(parsed.value.namespace, '');
  }
});
