// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * DNS rules where a CiliumLocalRedirectPolicy leads queries to pods of this node. Those of the cluster's resolvers stand for
 * each other; any other Service's backends must all be named.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  address,
  basicObjects,
  cnp,
  compileObjects,
  dnsPorts,
  dnsRule,
  kubeDns,
  pod,
  type Raw,
  readyPod,
  redirectPolicy,
  serversOf,
  service,
} from '../../../test/cluster-fixture.ts';

const labels = { 'k8s-app': 'node-local-dns' };
const nodeLocalDns: Raw = {
  matchLabels: { 'k8s:io.kubernetes.pod.namespace': 'kube-system', ...labels },
};
const cache = readyPod(pod('kube-system/cache', labels, 'one', '10.244.0.53'));
const toService: Raw = { serviceMatcher: { serviceName: 'kube-dns', namespace: 'kube-system' } };
const policy = redirectPolicy('kube-system/cache', toService);
const toAddress: Raw = {
  addressMatcher: { ip: '169.254.20.10', toPorts: [{ port: '53', protocol: 'UDP' }] },
};
const byAddress = redirectPolicy('kube-system/cache', toAddress, [{ port: '53', protocol: 'UDP' }]);

interface Case {
  readonly egress: readonly Raw[];
  readonly egressDeny?: readonly Raw[];
  readonly objects: readonly Raw[];
  readonly node?: Raw;
  /** Names at the frontend; undefined: DNS to it is not steered. */
  readonly at: string;
  readonly names: string | undefined;
  readonly says?: readonly string[];
}
const rule = (peer: Raw, ...names: readonly string[]): Raw => ({
  toEndpoints: [peer],
  toPorts: dnsRule(...names),
});
const plain = (peer: Raw): Raw => ({
  toEndpoints: [peer],
  toPorts: [{ ports: [{ port: '53', protocol: 'UDP' }] }],
});
const service_ = '10.96.0.10/udp';
const tenantDns: Raw = { matchLabels: { app: 'resolver' } };
const tenant: readonly Raw[] = [
  pod('shop/resolver', { app: 'resolver' }, 'two', '10.244.1.90'),
  ...service('shop/resolver', '10.96.0.90', dnsPorts, '10.244.1.90'),
  redirectPolicy('shop/own', {
    serviceMatcher: { serviceName: 'resolver', namespace: 'shop' },
  }),
];
const tenantCache = readyPod(pod('shop/cache', labels, 'one', '10.244.0.90'));

const cases: Readonly<Record<string, Case>> = {
  'a rule for kube-dns alone, the cache is ready': {
    ...{ egress: [rule(kubeDns, 'a')], objects: [policy, cache], at: service_, names: 'a.' },
  },
  'a rule for kube-dns alone, there is no cache': {
    ...{ egress: [rule(kubeDns, 'a')], objects: [policy], at: service_, names: 'a.' },
  },
  'a rule for the cache alone': {
    ...{ egress: [rule(nodeLocalDns, 'a')], objects: [policy, cache], at: service_, names: 'a.' },
  },
  'a rule for the cache alone, and it is not ready': {
    ...{ egress: [rule(nodeLocalDns, 'a')], at: service_, names: 'a.' },
    objects: [policy, readyPod(cache, false)],
  },
  'a rule for the cache alone, and the node has none yet': {
    ...{ egress: [rule(nodeLocalDns, 'a')], objects: [policy], at: service_, names: 'a.' },
  },
  'a rule for each, names add up': {
    egress: [rule(kubeDns, 'a'), rule(nodeLocalDns, 'b')],
    ...{ objects: [policy, cache], at: service_, names: 'a. b.' },
  },
  'kube-dns by port alone and the cache by names': {
    egress: [plain(kubeDns), rule(nodeLocalDns, 'b')],
    ...{ objects: [policy, cache], at: service_, names: 'b.' },
  },
  'by port alone nothing is steered': {
    ...{ egress: [plain(kubeDns)], objects: [policy, cache], at: service_, names: undefined },
  },
  'the cache is denied': {
    egress: [rule(kubeDns, 'a')],
    egressDeny: [{ toEndpoints: [nodeLocalDns] }],
    ...{ objects: [policy, cache], at: service_, names: undefined },
  },
  'a rule for neither': {
    egress: [rule({ matchLabels: { app: 'nobody' } }, 'a')],
    ...{ objects: [policy, cache], at: service_, names: undefined },
    says: ['dns-rule-without-server'],
  },
  'an address, and a rule for the cache': {
    egress: [rule(nodeLocalDns, 'a')],
    ...{ objects: [byAddress, cache], at: '169.254.20.10/udp', names: 'a.' },
  },
  'an address, a rule for the cache, and none is there': {
    egress: [rule(nodeLocalDns, 'a')],
    ...{ objects: [byAddress], at: '169.254.20.10/udp', names: 'a.' },
  },
  'an address, and a rule by this address': {
    egress: [{ toCIDR: ['169.254.20.10/32'], toPorts: dnsRule('a') }],
    ...{ objects: [byAddress, cache], at: '169.254.20.10/udp', names: 'a.' },
  },
  'an address, and a rule for kube-dns, which it does not stand for': {
    egress: [rule(kubeDns, 'a')],
    ...{ objects: [byAddress, cache], at: '169.254.20.10/udp', names: undefined },
  },
  'an address of nodeLocalDns, and a rule for kube-dns': {
    egress: [rule(kubeDns, 'a')],
    ...{ objects: [byAddress, cache], at: '169.254.20.10/udp', names: 'a.' },
    node: { nodeLocalDns: [address('169.254.20.10')] },
  },
  'a tenant’s Service that leads to pods which no rule names': {
    egress: [rule(tenantDns, 'a')],
    ...{ objects: [...tenant, tenantCache], at: '10.96.0.90/udp', names: undefined },
  },
  'a tenant’s Service, and rules for both': {
    egress: [rule(tenantDns, 'a', 'b'), rule({ matchLabels: labels }, 'b', 'c')],
    ...{ objects: [...tenant, tenantCache], at: '10.96.0.90/udp', names: 'b.' },
  },
  'a tenant’s Service without a ready pod here': {
    ...{ egress: [rule(tenantDns, 'a')], objects: tenant, at: '10.96.0.90/udp', names: 'a.' },
  },
};
for (const [what, each] of Object.entries(cases)) {
  test(`DNS rules behind a redirect: ${what}`, () => {
    const { egress, egressDeny, objects, node = {}, at, names, says = [] } = each;
    const deny = egressDeny === undefined ? {} : { egressDeny };
    const web = { matchLabels: { app: 'web' } };
    const compiled = compileObjects(
      [...basicObjects, ...objects, cnp('shop/p', { endpointSelector: web, egress, ...deny })],
      { node },
    );
    assert.equal(serversOf(compiled)[at], names);
    assert.deepEqual(
      compiled.diagnostics.map(({ code }) => code),
      says,
    );
  });
}

test('members leave sockets when the ready backends are others, and when there is none', () => {
  const rules = cnp('shop/p', {
    endpointSelector: { matchLabels: { app: 'web' } },
    egress: [rule(kubeDns, 'a')],
  });
  const digests = (...objects: readonly Raw[]): readonly number[] =>
    compileObjects([...basicObjects, rules, ...objects]).members.backendDigests.map(
      ({ digest }) => digest,
    );
  const second = readyPod(pod('kube-system/second', labels, 'one', '10.244.0.54'));
  const all = [
    digests(),
    digests(policy, cache),
    digests(policy, second),
    digests(policy, cache, second),
  ];
  assert.equal(new Set(all.flat()).size, 4);
  assert.deepEqual(digests(policy, readyPod(cache, false)), all[0]);
});

test('a cache under rules.dns: the members ask the Service, and it is said', () => {
  const own = cnp('kube-system/own', {
    endpointSelector: { matchLabels: labels },
    egress: [rule(kubeDns, '*')],
  });
  const compiled = compileObjects([...basicObjects, policy, cache, own]);
  assert.deepEqual(
    compiled.redirects.map(({ isAskedByName }) => isAskedByName),
    [true, true],
  );
  assert.deepEqual(
    compiled.diagnostics.map(({ code }) => code),
    ['redirect-backend-judged'],
  );
});
