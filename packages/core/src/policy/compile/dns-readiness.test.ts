// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Servers of DNS rules while backends of their Service are not ready, or away. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  basicObjects,
  cnp,
  compileObjects,
  dnsPorts,
  dnsRule,
  kubeDns,
  pod,
  type Raw,
  serversOf,
  service,
} from '../../../test/cluster-fixture.ts';

const web = { matchLabels: { app: 'web' } };
const rule = (peers: Raw, ...patterns: readonly string[]): Raw => ({
  ...peers,
  toPorts: dnsRule(...patterns),
});
const toDns = { toEndpoints: [kubeDns] };
const rogue = pod('shop/rogue', { app: 'rogue' }, 'two', '10.244.1.66');
const kubeDnsLabels = { 'k8s-app': 'kube-dns' };
const withSelector = (
  objects: readonly Raw[],
  selector: Raw,
  targetPort?: number | string,
): readonly Raw[] =>
  objects.map((object) => {
    if (object['kind'] !== 'Service') return object;
    const spec = object['spec'] as Raw;
    const ports = (spec['ports'] as readonly Raw[]).map((port) => ({ ...port, targetPort }));
    return { ...object, spec: { ...spec, selector, ports } };
  });

test('a resolver of the cluster whose pods are away is judged by its selector, whosever their addresses are', () => {
  const [frontend, slice] = withSelector(
    service('kube-system/kube-dns', '10.96.0.10', dnsPorts, '10.244.1.66'),
    kubeDnsLabels,
  );
  const policy = cnp('shop/p', { endpointSelector: web, egress: [rule(toDns, 'a')] });
  const serverWhile = (conditions: Raw, deny: readonly Raw[] = []): string | undefined => {
    const endpoints = [{ addresses: ['10.244.1.66'], conditions }];
    const denied = cnp('shop/deny', { endpointSelector: web, egressDeny: deny });
    const objects = [...basicObjects, rogue, policy, ...(deny.length > 0 ? [denied] : [])];
    const all = [...objects, frontend as Raw, { ...slice, endpoints }];
    return serversOf(compileObjects(all))['10.96.0.10/udp'];
  };
  assert.equal(serverWhile({ ready: false }), 'a.');
  assert.equal(serverWhile({ ready: false, serving: false, terminating: true }), 'a.');
  assert.equal(serverWhile({ ready: true }), undefined, 'kube-proxy leads to a stranger');
  assert.equal(serverWhile({ ready: false }, [toDns]), undefined, 'a denial holds for absent pods');
});

test('endpoints that are not ready count only when no other is', () => {
  const readiness = (ready: boolean): Raw => {
    const [, slice] = service('kube-system/kube-dns', '10.96.0.10', dnsPorts, '10.244.1.53');
    const endpoints = [
      { addresses: ['10.244.1.53'], conditions: { ready } },
      { addresses: ['10.244.1.66'], conditions: { ready: false } },
    ];
    return { ...slice, endpoints };
  };
  const policy = cnp('shop/p', { endpointSelector: web, egress: [rule(toDns, 'a')] });
  const withSlice = (ready: boolean): Readonly<Record<string, string>> =>
    serversOf(compileObjects([...basicObjects, rogue, policy, readiness(ready)]));
  assert.equal(withSlice(true)['10.96.0.10/udp'], 'a.');
  assert.equal(withSlice(false)['10.96.0.10/udp'], undefined);
});
