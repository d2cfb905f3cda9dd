// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Which frontends a node redirects to which of its pods, and what is said of policies that redirect nothing. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  address,
  basicObjects,
  compileObjects,
  dnsPorts,
  pod,
  type Raw,
  readyPod,
  redirectPolicy,
  service,
} from '../../../test/cluster-fixture.ts';
import {
  redirectBackendsMax,
  redirectFrontendsPerPolicyMax,
  redirectPairsPerPolicyMax,
  redirectPoliciesMax,
} from '../../limits.ts';
import { formatAddress } from '../../net/ip.ts';
import type { Compiled } from '../model/desired.ts';

const labels = { 'k8s-app': 'node-local-dns' };
const cachePod = (name: string, nodeName: string, ...ips: readonly string[]): Raw =>
  pod(`kube-system/${name}`, labels, nodeName, ...ips);
const cache = readyPod(cachePod('cache', 'one', '10.244.0.53', 'fd00:244::53'));
const toService: Raw = { serviceMatcher: { serviceName: 'kube-dns', namespace: 'kube-system' } };
const policy = redirectPolicy('kube-system/cache', toService);
const udp = { port: '53', name: 'dns', protocol: 'UDP' };
const toAddress = (ip: string, toPorts: readonly Raw[] = [udp]): Raw => ({
  addressMatcher: { ip, toPorts },
});

function redirectsOf({ redirects }: Compiled): readonly string[] {
  return redirects.map(({ address: frontend, port, protocol, backends }) => {
    const to = backends.map((each) => `${formatAddress(each.address)}:${each.port}`).join(' ');
    return `${formatAddress(frontend)}:${port}/${protocol === 17 ? 'udp' : 'tcp'} -> ${to}`;
  });
}
const saidOf = ({ diagnostics }: Compiled): readonly string[] =>
  diagnostics
    .filter(({ code }) => code.startsWith('redirect-'))
    .map(
      ({ severity, code, subject }) =>
        `${severity} ${code} ${subject.split('/').slice(1).join('/')}`,
    );

interface Case {
  readonly objects: readonly Raw[];
  readonly node?: Raw;
  readonly want: readonly string[];
  readonly says?: readonly string[];
}
const toCache = ['10.96.0.10:53/tcp -> 10.244.0.53:53', '10.96.0.10:53/udp -> 10.244.0.53:53'];
const toNobody = ['10.96.0.10:53/tcp -> ', '10.96.0.10:53/udp -> '];

const cases: Readonly<Record<string, Case>> = {
  'every port of a Service (cilium#16906)': { objects: [policy, cache], want: toCache },
  'no pod of the node (cilium#43080)': { objects: [policy], want: toNobody },
  'a pod that is not ready yet (cilium#43080)': {
    objects: [policy, readyPod(cache, false)],
    want: toNobody,
  },
  'a pod on the network of the node': {
    objects: [
      policy,
      { ...cache, spec: { ...(cache['spec'] as Raw), hostNetwork: true } },
      readyPod(cachePod('other', 'two', '10.244.1.77')),
    ],
    want: toNobody,
    says: ['warning redirect-backend-host kube-system/cache'],
  },
  'a pod on the network of another node': {
    objects: [
      policy,
      {
        ...readyPod(cachePod('other', 'two', '192.168.0.2')),
        spec: { nodeName: 'two', hostNetwork: true },
      },
    ],
    want: toNobody,
  },
  'a pod on the network of the node, beside one that is not': {
    objects: [
      policy,
      cache,
      {
        ...readyPod(cachePod('old', 'one', '192.168.0.1')),
        spec: { nodeName: 'one', hostNetwork: true },
      },
    ],
    want: toCache,
  },
  'a pod without conditions': {
    objects: [policy, cachePod('cache', 'one', '10.244.0.53')],
    want: toNobody,
  },
  'a pod that ends (cilium#43454)': {
    objects: [
      policy,
      { ...cache, metadata: { ...(cache['metadata'] as Raw), deletionTimestamp: 'now' } },
    ],
    want: toNobody,
  },
  'a ready pod of another node': {
    objects: [policy, readyPod(cachePod('cache', 'two', '10.244.1.77'))],
    want: toNobody,
  },
  'a ready pod of another namespace': {
    objects: [policy, readyPod(pod('shop/cache', labels, 'one', '10.244.0.53'))],
    want: toNobody,
  },
  'two ready pods': {
    objects: [policy, readyPod(cachePod('second', 'one', '10.244.0.54')), cache],
    want: [
      '10.96.0.10:53/tcp -> 10.244.0.53:53 10.244.0.54:53',
      '10.96.0.10:53/udp -> 10.244.0.53:53 10.244.0.54:53',
    ],
  },
  'a pod without an address of the family': {
    objects: [policy, readyPod(cachePod('cache', 'one', 'fd00:244::53'))],
    want: toNobody,
  },
  'one port of a Service, and a backend at another number': {
    objects: [
      cache,
      redirectPolicy(
        'kube-system/cache',
        { serviceMatcher: { ...(toService['serviceMatcher'] as Raw), toPorts: [udp] } },
        [{ port: '1053', protocol: 'UDP' }],
      ),
    ],
    want: ['10.96.0.10:53/udp -> 10.244.0.53:1053'],
  },
  'a Service that has other names (cilium#43800)': {
    objects: [
      cache,
      redirectPolicy('kube-system/cache', toService, [
        { port: '53', name: 'udp', protocol: 'UDP' },
        { port: '53', name: 'tcp', protocol: 'TCP' },
      ]),
    ],
    want: [],
    says: ['error redirect-port kube-system/cache', 'error redirect-port kube-system/cache'],
  },
  'a port that the Service does not have': {
    objects: [
      cache,
      redirectPolicy('kube-system/cache', {
        serviceMatcher: {
          ...(toService['serviceMatcher'] as Raw),
          toPorts: [{ ...udp, port: '54' }],
        },
      }),
    ],
    want: [],
    says: ['error redirect-port kube-system/cache'],
  },
  'a port of a Service that nobody meant': {
    objects: [
      policy,
      cache,
      ...service(
        'kube-system/kube-dns',
        '10.96.0.10',
        [...dnsPorts, { name: 'metrics', port: 9153, target: 9153, protocol: 'TCP' }],
        '10.244.1.53',
      ),
    ],
    want: toCache,
  },
  'an address with ports by name (cilium#42313)': {
    objects: [
      cache,
      redirectPolicy(
        'kube-system/cache',
        toAddress('169.254.20.10', [udp, { port: '53', name: 'dns-tcp', protocol: 'TCP' }]),
      ),
    ],
    want: ['169.254.20.10:53/tcp -> 10.244.0.53:53', '169.254.20.10:53/udp -> 10.244.0.53:53'],
  },
  'an address of IPv6': {
    objects: [cache, redirectPolicy('kube-system/cache', toAddress('2001:db8::53'))],
    want: ['2001:db8::53:53/udp -> fd00:244::53:53'],
  },
  'a Service that is not there': {
    objects: [
      cache,
      redirectPolicy('kube-system/cache', {
        serviceMatcher: { serviceName: 'other', namespace: 'kube-system' },
      }),
    ],
    want: [],
    says: ['error redirect-refused kube-system/cache'],
  },
  'two policies for one Service: the older one': {
    objects: [
      cache,
      {
        ...redirectPolicy('kube-system/a', toService),
        metadata: {
          name: 'a',
          namespace: 'kube-system',
          creationTimestamp: '2026-02-01T00:00:00Z',
        },
      },
      {
        ...redirectPolicy('kube-system/z', toService),
        metadata: {
          name: 'z',
          namespace: 'kube-system',
          creationTimestamp: '2026-01-01T00:00:00Z',
        },
      },
    ],
    want: toCache,
    says: ['error redirect-conflict kube-system/a'],
  },
  'a tenant’s policy for an address': {
    objects: [
      readyPod(pod('shop/cache', labels, 'one', '10.244.0.53')),
      redirectPolicy('shop/cache', toAddress('203.0.113.7')),
    ],
    want: [],
    says: ['error redirect-refused shop/cache'],
  },
  'a tenant’s policy for an address, where the operator lets it': {
    objects: [
      readyPod(pod('shop/cache', labels, 'one', '10.244.0.53')),
      redirectPolicy('shop/cache', toAddress('203.0.113.7')),
    ],
    node: { redirectNamespaces: ['shop'] },
    want: ['203.0.113.7:53/udp -> 10.244.0.53:53'],
  },
  'a tenant’s policy for a resolver whose answers count for every policy': {
    objects: [
      readyPod(pod('shop/cache', labels, 'one', '10.244.0.53')),
      redirectPolicy('shop/cache', toAddress('203.0.113.7')),
    ],
    node: { redirectNamespaces: ['shop'], clusterResolvers: [address('203.0.113.7')] },
    want: [],
    says: ['error redirect-refused shop/cache'],
  },
  'many policies of a tenant, older than that of the cache': {
    objects: [
      cache,
      {
        ...policy,
        metadata: { ...(policy['metadata'] as Raw), creationTimestamp: '2026-12-01T00:00:00Z' },
      },
      ...Array.from({ length: 256 }, (_, i) =>
        redirectPolicy(`shop/p${i}`, {
          serviceMatcher: { serviceName: 'none', namespace: 'shop' },
        }),
      ),
    ],
    want: toCache,
    says: [...Array.from({ length: 255 }, () => 'redirect-refused'), 'redirect-limit'],
  },
  'the API server by its Service': {
    objects: [
      ...service(
        'default/kubernetes',
        '10.96.0.1',
        [{ name: 'https', port: 443, target: 6443, protocol: 'TCP' }],
        '192.168.0.2',
      ),
      readyPod(pod('default/cache', labels, 'one', '10.244.0.53')),
      redirectPolicy('default/cache', {
        serviceMatcher: { serviceName: 'kubernetes', namespace: 'default' },
      }),
    ],
    want: [],
    says: ['error redirect-refused default/cache'],
  },
  ...Object.fromEntries(
    ['10.96.0.10', '192.168.0.1', '192.168.0.2', '10.244.1.53', '10.244.0.200'].map((ip) => [
      `the address ${ip} of a Service, a node or pods, even where addresses may be matched`,
      {
        objects: [cache, redirectPolicy('kube-system/cache', toAddress(ip))],
        want: [],
        says: ['error redirect-refused kube-system/cache'],
      },
    ]),
  ),
};
for (const [what, { objects, node, want, says = [] }] of Object.entries(cases)) {
  test(`redirects: ${what}`, () => {
    const compiled = compileObjects([...basicObjects, ...objects], { node: node ?? {} });
    assert.deepEqual(redirectsOf(compiled), want);
    const said = saidOf(compiled);
    // Of many only what kinds there are.
    const isMany = said.length > 10;
    const codes = said.map((text) => text.split(' ')[1] ?? '');
    assert.deepEqual(isMany ? codes.sort() : said, isMany ? [...says].sort() : says);
  });
}

test('what no Service has is an address: past its redirect is no server that stands for the backends', () => {
  const isAddress = (frontend: Raw, nodeLocalDns: readonly string[]): readonly boolean[] =>
    compileObjects([...basicObjects, cache, redirectPolicy('kube-system/cache', frontend)], {
      node: { nodeLocalDns: nodeLocalDns.map(address) },
    }).redirects.map((each) => each.isAddress);
  assert.deepEqual(isAddress(toService, []), [false, false]);
  assert.deepEqual(isAddress(toAddress('169.254.20.10'), ['169.254.20.10']), [true]);
  assert.deepEqual(
    isAddress(toAddress('10.96.0.10'), ['10.96.0.10']),
    [false],
    'listed as a cache',
  );
});

test('a pod that ends while it is ready keeps what it has in hand', () => {
  const ending = {
    ...cache,
    metadata: { ...(cache['metadata'] as Raw), deletionTimestamp: 'now' },
  };
  const { redirects } = compileObjects([...basicObjects, policy, ending]);
  assert.deepEqual(
    redirects.map((each) => each.ending.map((own) => formatAddress(own))),
    [['10.244.0.53'], ['10.244.0.53']],
  );
});

const shopLabels = (count: number): readonly Raw[] =>
  Array.from({ length: count }, (_, i) =>
    readyPod(pod(`shop/own-${i}`, labels, 'one', `10.244.0.${i + 100}`)),
  );
const ofShop = (count: number, name = 'shop'): readonly Raw[] =>
  Array.from({ length: count }, (_, i) =>
    redirectPolicy(`${name}/p-${i}`, { serviceMatcher: { serviceName: 'web', namespace: name } }),
  );
const at = (created: string, raw: Raw): Raw => ({
  ...raw,
  metadata: { ...(raw['metadata'] as Raw), creationTimestamp: created },
});

test('a namespace with more policies than a node takes costs no other namespace its own', () => {
  const older = ofShop(2 * redirectPoliciesMax).map((raw) => at('2020-01-01T00:00:00Z', raw));
  const newer = '2026-01-01T00:00:00Z';
  const other = [
    ...service('team/web', '10.96.0.90', dnsPorts),
    readyPod(pod('team/own', labels, 'one', '10.244.0.90')),
    ...ofShop(1, 'team').map((raw) => at(newer, raw)),
  ];
  const compiled = compileObjects([...basicObjects, ...older, ...other, cache, at(newer, policy)]);
  assert.deepEqual(redirectsOf(compiled), [
    ...toCache,
    '10.96.0.90:53/tcp -> 10.244.0.90:53',
    '10.96.0.90:53/udp -> 10.244.0.90:53',
  ]);
  const over = compiled.diagnostics.filter(({ code }) => code === 'redirect-limit');
  assert.equal(over.length, 1, 'however many they are');
  assert.match(over[0]?.subject ?? '', /\/shop\//);
  assert.match(
    over[0]?.message ?? '',
    new RegExp(`${redirectPoliciesMax + 1} more of its namespace`),
  );
});

test('a policy redirects from so many addresses and ports, and to so many pods of them all', () => {
  const ports = Array.from({ length: 1_000 }, (_, i) => ({
    ...{ name: `p-${i}`, port: i + 1, target: i + 1, protocol: 'TCP' },
  }));
  const frontend = { serviceMatcher: { serviceName: 'many', namespace: 'shop' } };
  const mine = redirectPolicy('shop/all', frontend, [{ port: '80', protocol: 'TCP' }]);
  const compiled = compileObjects([
    ...basicObjects,
    ...service('shop/many', '10.96.0.80', ports),
    ...shopLabels(redirectBackendsMax),
    at('2020-01-01T00:00:00Z', mine),
    cache,
    at('2026-01-01T00:00:00Z', policy),
  ]);
  const own = compiled.redirects.filter(({ namespace }) => namespace === 'shop');
  assert.equal(own.length, redirectFrontendsPerPolicyMax);
  const pairs = own.reduce((sum, { backends }) => sum + backends.length, 0);
  assert.ok(pairs > 0 && pairs <= redirectPairsPerPolicyMax, `${pairs} pairs`);
  assert.deepEqual(redirectsOf(compiled).slice(0, 2), toCache);
  assert.deepEqual(saidOf(compiled), [
    'error redirect-limit shop/all',
    'warning redirect-limit shop/all',
  ]);
});
