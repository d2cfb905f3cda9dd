// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Contents of a CiliumLocalRedirectPolicy: each fault by the field that has it, none ignored. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { objectErrorCharsMax, redirectSelectorItemsMax } from '../limits.ts';
import type { LocalRedirectPolicy } from './objects.ts';
import { parseObject } from './parse-object.ts';
import { pairedPort, selectsLabels } from './parse-redirect-policy.ts';

type Raw = Readonly<Record<string, unknown>>;

const udp = { port: '53', name: 'dns', protocol: 'UDP' };
const tcp = { port: '53', name: 'dns-tcp', protocol: 'TCP' };
const serviceMatcher = { serviceName: 'kube-dns', namespace: 'kube-system' };
const backend = {
  localEndpointSelector: { matchLabels: { 'k8s-app': 'node-local-dns' } },
  toPorts: [udp, tcp],
};

function objectOf(spec: unknown, rest: Raw = {}): Raw {
  return {
    apiVersion: 'cilium.io/v2',
    kind: 'CiliumLocalRedirectPolicy',
    metadata: { name: 'cache', namespace: 'kube-system' },
    spec,
    ...rest,
  };
}
const specOf = (frontend: unknown, redirectBackend: unknown = backend, rest: Raw = {}): Raw => ({
  redirectFrontend: frontend,
  redirectBackend,
  ...rest,
});

function parsed(object: Raw): LocalRedirectPolicy {
  const result = parseObject(object);
  assert(result.ok, JSON.stringify(result));
  assert(result.value.kind === 'CiliumLocalRedirectPolicy');
  return result.value;
}

test('the example of Cilium: a Service without ports, backends by name', () => {
  const spec = specOf({ serviceMatcher }, backend, {
    skipRedirectFromBackend: true,
    description: 'a cache',
  });
  const policy = parsed(objectOf(spec, { status: { ok: true } }));
  assert.deepEqual(policy.frontend, { kind: 'service', name: 'kube-dns', ports: [] });
  assert.deepEqual(policy.backendPorts, [
    { name: 'dns', port: 53, protocol: 'UDP' },
    { name: 'dns-tcp', port: 53, protocol: 'TCP' },
  ]);
  assert.equal(selectsLabels(policy.selector, new Map([['k8s-app', 'node-local-dns']])), true);
  assert.equal(selectsLabels(policy.selector, new Map([['k8s-app', 'kube-dns']])), false);
});

test('an address with ports by name, names in any letters (cilium#42313)', () => {
  const toPorts = [{ ...udp, name: 'DNS' }, tcp];
  const { frontend } = parsed(
    objectOf(specOf({ addressMatcher: { ip: ' 169.254.20.10 ', toPorts } })),
  );
  assert(frontend.kind === 'address');
  assert.deepEqual(
    frontend.ports.map(({ name }) => name),
    ['dns', 'dns-tcp'],
  );
});

const matcher = (addressMatcher: Raw): Raw => specOf({ addressMatcher });
const faults: Readonly<Record<string, readonly [spec: unknown, path: string]>> = {
  'no spec': [undefined, 'spec'],
  'no frontend': [{ redirectBackend: backend }, 'spec.redirectFrontend'],
  'no matcher': [specOf({}), 'spec.redirectFrontend'],
  'two matchers': [
    specOf({ serviceMatcher, addressMatcher: { ip: '192.0.2.1', toPorts: [udp] } }),
    'spec.redirectFrontend',
  ],
  'no backend': [{ redirectFrontend: { serviceMatcher } }, 'spec.redirectBackend'],
  'a field too many': [
    specOf({ serviceMatcher }, backend, { skipRedirectFromBackends: true }),
    'spec.skipRedirectFromBackends',
  ],
  'a backend of the host by its address': [
    specOf({ serviceMatcher }, { ...backend, overrideIP: '127.0.0.1' }),
    'spec.redirectBackend.overrideIP',
  ],
  'another namespace’s Service': [
    specOf({ serviceMatcher: { ...serviceMatcher, namespace: 'shop' } }),
    'spec.redirectFrontend.serviceMatcher.namespace',
  ],
  'a Service without a name': [
    specOf({ serviceMatcher: { namespace: 'kube-system' } }),
    'spec.redirectFrontend.serviceMatcher.serviceName',
  ],
  'no address': [
    matcher({ ip: 'kube-dns', toPorts: [udp] }),
    'spec.redirectFrontend.addressMatcher.ip',
  ],
  'an address without ports': [
    matcher({ ip: '192.0.2.1' }),
    'spec.redirectFrontend.addressMatcher.toPorts',
  ],
  'a loopback address': [
    matcher({ ip: '127.0.0.53', toPorts: [udp] }),
    'spec.redirectFrontend.addressMatcher.ip',
  ],
  'a group': [
    matcher({ ip: '224.0.0.251', toPorts: [udp] }),
    'spec.redirectFrontend.addressMatcher.ip',
  ],
  'a link-local address of IPv6': [
    matcher({ ip: 'fe80::1', toPorts: [udp] }),
    'spec.redirectFrontend.addressMatcher.ip',
  ],
  'several ports without names': [
    matcher({ ip: '192.0.2.1', toPorts: [{ port: '53', protocol: 'UDP' }, tcp] }),
    'spec.redirectFrontend.addressMatcher.toPorts[0].name',
  ],
  'one name for two backends': [
    specOf({ serviceMatcher }, { ...backend, toPorts: [udp, { ...udp, port: '54' }] }),
    'spec.redirectBackend.toPorts[1].name',
  ],
  'a number that is none': [
    matcher({ ip: '192.0.2.1', toPorts: [{ ...udp, port: '0' }] }),
    'spec.redirectFrontend.addressMatcher.toPorts[0].port',
  ],
  'a protocol that is not translated': [
    matcher({ ip: '192.0.2.1', toPorts: [{ ...udp, protocol: 'SCTP' }] }),
    'spec.redirectFrontend.addressMatcher.toPorts[0].protocol',
  ],
  'a frontend that no backend is for': [
    specOf({ addressMatcher: { ip: '192.0.2.1', toPorts: [tcp] } }, { ...backend, toPorts: [udp] }),
    'spec.redirectFrontend.addressMatcher.toPorts',
  ],
  'names that do not meet (cilium#43800)': [
    matcher({ ip: '192.0.2.1', toPorts: [udp, { ...tcp, name: 'tcp' }] }),
    'spec.redirectFrontend.addressMatcher.toPorts',
  ],
  'no ports of the backend': [
    specOf({ serviceMatcher }, { ...backend, toPorts: [] }),
    'spec.redirectBackend.toPorts',
  ],
  'every pod as backend': [
    specOf({ serviceMatcher }, { ...backend, localEndpointSelector: {} }),
    'spec.redirectBackend.localEndpointSelector',
  ],
  'a label with a value that no pod can have': [
    specOf(
      { serviceMatcher },
      { ...backend, localEndpointSelector: { matchLabels: { app: '*' } } },
    ),
    'spec.redirectBackend.localEndpointSelector.matchLabels.app',
  ],
  'a label that no pod can have': [
    specOf(
      { serviceMatcher },
      { ...backend, localEndpointSelector: { matchLabels: { 'k8s:the app': 'c' } } },
    ),
    'spec.redirectBackend.localEndpointSelector.matchLabels',
  ],
  'an operator that is none': [
    specOf(
      { serviceMatcher },
      {
        ...backend,
        localEndpointSelector: { matchExpressions: [{ key: 'a', operator: 'Is', values: ['b'] }] },
      },
    ),
    'spec.redirectBackend.localEndpointSelector.matchExpressions[0].operator',
  ],
  'a selector that costs as much as its tenant likes': [
    specOf(
      { serviceMatcher },
      {
        ...backend,
        localEndpointSelector: {
          matchExpressions: [
            {
              ...{ key: 'a', operator: 'NotIn' },
              values: Array.from({ length: redirectSelectorItemsMax }, (_, i) => `v${i}`),
            },
          ],
        },
      },
    ),
    'spec.redirectBackend.localEndpointSelector',
  ],
  'a name that is none of a Service': [
    specOf({ serviceMatcher: { ...serviceMatcher, serviceName: '../kube-dns' } }),
    'spec.redirectFrontend.serviceMatcher.serviceName',
  ],
  'a field with an inherited name': [
    specOf({ serviceMatcher }, backend, { constructor: 1 }),
    'spec.constructor',
  ],
  'a selector of nodes': [
    specOf({ serviceMatcher }, backend, { nodeSelector: {} }),
    'spec.nodeSelector',
  ],
};
for (const [what, [spec, path]] of Object.entries(faults)) {
  test(`invalid: ${what}`, () => {
    const result = parseObject(objectOf(spec));
    assert(!result.ok);
    assert.deepEqual([...new Set(result.error.issues.map((issue) => issue.path))], [path]);
    assert.equal(result.error.partial, undefined, 'nothing of it is taken');
  });
}

test('what is quoted of an object is text of bounded length without control characters', () => {
  const nasty = `\u001b[2J\u202e\n${'x'.repeat(100_000)}`;
  const specs = [
    specOf({ serviceMatcher: { serviceName: nasty, namespace: nasty } }),
    specOf({ serviceMatcher: { serviceName: 'x', namespace: nasty } }),
    specOf({ addressMatcher: { ip: nasty, toPorts: [udp] } }),
    specOf({ serviceMatcher }, backend, { [nasty]: 1, toString: 1 }),
    specOf(
      { serviceMatcher },
      { ...backend, localEndpointSelector: { matchLabels: { [`a:${nasty}`]: 'b' } } },
    ),
    specOf({ serviceMatcher: { ...serviceMatcher, toPorts: [{ ...udp, name: nasty }, tcp] } }),
  ];
  for (const spec of specs) {
    const result = parseObject(objectOf(spec));
    assert(!result.ok);
    for (const { path, message } of result.error.issues) {
      for (const text of [path, message]) {
        assert.equal(typeof text, 'string');
        assert.doesNotMatch(text, /[\p{Cc}\p{Cf}]/u);
        assert.ok(text.length < objectErrorCharsMax + 100, `${text.length} characters`);
      }
    }
  }
});

test('a version of the kind that is not known redirects nothing, and is named', () => {
  const result = parseObject({
    ...objectOf(specOf({ serviceMatcher })),
    apiVersion: 'cilium.io/v3',
  });
  assert(result.ok && result.value.kind === 'unsupported');
  assert.equal(result.value.isPolicy, true);
});

test('which port is whose', () => {
  const backends = [
    { name: 'dns', port: 53, protocol: 'UDP' },
    { name: 'dns-tcp', port: 54, protocol: 'TCP' },
  ] as const;
  const paired = (name: string, protocol: 'UDP' | 'TCP', frontends: number): number | undefined =>
    pairedPort({ name, protocol }, frontends, backends)?.port;
  assert.equal(paired('dns', 'UDP', 2), 53);
  assert.equal(paired('dns', 'TCP', 2), undefined, 'a name of another protocol');
  assert.equal(paired('other', 'UDP', 2), undefined);
  assert.equal(paired('other', 'TCP', 1), 54, 'one port needs no name');
  assert.equal(pairedPort({ name: 'x', protocol: 'UDP' }, 5, backends.slice(0, 1))?.port, 53);
});
