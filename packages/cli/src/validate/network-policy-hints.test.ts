// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { K8sObject } from '@tandem/core/k8s/objects';
import { parseObject } from '@tandem/core/k8s/parse-object';
import { NetworkPolicyHints } from './network-policy-hints.ts';

type Body = Readonly<Record<string, unknown>>;

function read(raw: Body): K8sObject {
  const parsed = parseObject(raw);
  assert.ok(parsed.ok, JSON.stringify(raw));
  return parsed.value;
}

const policy = (spec: Body, name = 'p'): K8sObject =>
  read({
    ...{ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy' },
    ...{ metadata: { name, namespace: 'shop' }, spec },
  });

/** Hints for the first object, beside the others. */
function hintsOf(object: K8sObject, ...others: readonly K8sObject[]): string {
  assert.ok(object.kind === 'NetworkPolicy');
  const hints = new NetworkPolicyHints([object, ...others]).of(object);
  return hints.map(({ path, message }) => `${path} ${message}`).join('\n');
}

const all = { podSelector: {} };
const web = { podSelector: { matchLabels: { app: 'web' } } };
const team = { namespaceSelector: { matchLabels: { team: 'a' } } };
const dns = { ports: [{ port: 53, protocol: 'UDP' }] };
const https = { to: [web], ports: [{ port: 443 }] };

test('what is valid and seldom meant is said, with what to write', () => {
  const rows: readonly (readonly [spec: Body, hint: RegExp])[] = [
    [{ ingress: [] }, /^spec.podSelector is missing: every pod .* Write {}/],
    [
      { ...all, ingress: [{ from: [team, web] }] },
      /from\[0\] and the next peer allow each alone.*dash/,
    ],
    [{ ...all, ingress: [{ from: [web, team] }] }, /from\[0\] and the next peer allow each alone/],
    [
      { ...all, ingress: [{ from: [web] }, { ports: [{ port: 80 }] }] },
      /ingress\[0\] allows these .*ingress\[1\] every peer/,
    ],
    [{ ...all, ingress: [{ from: [] }] }, /from is empty, which is everybody/],
    [
      { ...all, ingress: [{ from: null, ports: null }] },
      /from is empty.*\n.*ports is empty, which is every port/,
    ],
    [
      { ...all, ingress: [{ from: [{ ...web, namespaceSelector: null }] }] },
      /namespaceSelector has no value, which selects pods of the policy's own namespace/,
    ],
    [
      { ...all, ingress: [{ from: [{ namespaceSelector: { matchLabels: { name: 'x' } } }] }] },
      /for their name write kubernetes.io\/metadata.name/,
    ],
    [
      { ...all, policyTypes: ['Ingress', 'Egress'], ingress: [{ from: [web] }] },
      /policyTypes names Egress, for which there is no rule: all egress is denied/,
    ],
    [{ ...all, egress: [https] }, /^spec.egress allows no DNS, and neither does another policy/],
    [{ ...all, egress: [{ ports: [{ port: 53 }] }] }, /ports\[0\] allows DNS over TCP alone/],
    [{ ...all, egress: [{ to: [{ ipBlock: { cidr: '192.0.2.0/24' } }] }] }, /allows no DNS/],
  ];
  for (const [spec, hint] of rows) assert.match(hintsOf(policy(spec)), hint);
});

test('nothing is said of what is usual', () => {
  const specs: readonly Body[] = [
    { ...all, policyTypes: ['Ingress', 'Egress'] },
    { ...all, policyTypes: ['Egress'], egress: [] },
    { ...all, policyTypes: ['Ingress', 'Egress'], ingress: [{ from: [web] }], egress: [] },
    { ...all, ingress: [{ from: [{ ...web, ...team }] }] },
    { ...all, ingress: [{ from: [team, { podSelector: {} }] }] },
    { ...all, ingress: [{}] },
    { ...all, ingress: [{ from: [web], ports: [{ port: 80 }] }, { ports: [{ port: 443 }] }] },
    { ...all, egress: [https, dns] },
    { ...all, egress: [https, { ports: [{ port: 'dns', protocol: 'UDP' }] }] },
    { ...all, egress: [{ to: [web] }] },
    { ...all, egress: [https, { to: [], ...dns }] },
    { ...all, egress: [{ ports: [{ port: 1, endPort: 100, protocol: 'UDP' }] }] },
  ];
  for (const spec of specs) assert.equal(hintsOf(policy(spec)), '', JSON.stringify(spec));
});

test('other objects of the files count', () => {
  const client = policy({ ...all, egress: [https] });
  assert.equal(hintsOf(client, policy({ ...all, egress: [dns] }, 'dns')), '');
  const cilium = { apiVersion: 'cilium.io/v2', kind: 'CiliumClusterwideNetworkPolicy' };
  const spec = { endpointSelector: {}, egress: [{}] };
  assert.equal(hintsOf(client, read({ ...cilium, metadata: { name: 'c' }, spec })), '');
  const named = policy({
    ...all,
    ingress: [{ from: [{ namespaceSelector: { matchLabels: { name: 'x' } } }] }],
  });
  const namespace = { apiVersion: 'v1', kind: 'Namespace' };
  assert.equal(
    hintsOf(named, read({ ...namespace, metadata: { name: 'x', labels: { name: 'x' } } })),
    '',
  );
});
