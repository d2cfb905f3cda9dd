// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  address,
  basicObjects,
  ccnp,
  cnp,
  compileObjects,
  type Raw,
  service,
} from '../../../test/cluster-fixture.ts';
import { hostPrefix, trieCovers } from '../../net/ip.ts';
import type { Compiled } from '../model/desired.ts';
import { classNone } from '../model/kernel-numbers.ts';

const web = { matchLabels: { app: 'web' } };

/** As the kernel looks it up: the longest prefix. */
function classAt(compiled: Compiled, ip: string): number {
  const target = hostPrefix(address(ip));
  const covering = [...compiled.classes].filter((entry) => trieCovers(entry.prefix, target));
  covering.sort((left, right) => right.prefix.bits - left.prefix.bits);
  return covering[0]?.classId ?? classNone;
}

test('classes: a peer selector that only says what peers lack matches pods alone', () => {
  const namespaceKey = 'io.kubernetes.pod.namespace';
  const team = 'io.cilium.k8s.namespace.labels.team';
  const without = (key: string, operator: string, ...values: readonly string[]): Raw => ({
    matchExpressions: [{ key, operator, ...(values.length > 0 ? { values } : {}) }],
  });
  const api = service('default/kubernetes', '10.96.0.1', [], '198.51.100.1', '192.168.0.2');
  const peers = {
    world: '203.0.113.5',
    world6: '2001:db8::5',
    api: '198.51.100.1',
    apiNode: '192.168.0.2',
    host: '192.168.0.1',
    service: '10.96.0.10',
    db: '10.244.1.5',
    dns: '10.244.1.53',
  };
  const matched = (policy: Raw): string => {
    const compiled = compileObjects([...basicObjects, policy, ...api]);
    const [key] = [...compiled.policies.values()].flatMap((each) => [...each.peers.keys()]);
    assert.ok(key !== undefined);
    const ids = compiled.classTable.classesOf.get(key) ?? [];
    const names = Object.entries(peers).filter(([, ip]) => ids.includes(classAt(compiled, ip)));
    return names.map(([name]) => name).join(' ');
  };
  // Values of Cilium 1.20.2 with policy-default-local-cluster.
  const table: readonly (readonly [string, Raw, string])[] = [
    ['namespace NotIn', without(namespaceKey, 'NotIn', 'kube-system'), 'db'],
    ['k8s: namespace NotIn', without(`k8s:${namespaceKey}`, 'NotIn', 'kube-system'), 'db'],
    ['any: namespace NotIn', without(`any:${namespaceKey}`, 'NotIn', 'shop'), 'dns'],
    ['namespace DoesNotExist', without(namespaceKey, 'DoesNotExist'), ''],
    ['label of namespace NotIn', without(team, 'NotIn', 'shop'), 'dns'],
    ['label of namespace DoesNotExist', without(team, 'DoesNotExist'), 'dns'],
  ];
  for (const [name, selector, want] of table) {
    for (const [field, section] of [
      ['fromEndpoints', 'ingress'],
      ['toEndpoints', 'egress'],
      ['toEndpoints', 'egressDeny'],
    ] as const) {
      const spec = { endpointSelector: web, [section]: [{ [field]: [selector] }] };
      assert.equal(matched(cnp('shop/p', spec)), want, `${section} of a CNP: ${name}`);
      assert.equal(matched(ccnp('p', spec)), want, `${section} of a CCNP: ${name}`);
    }
  }
  const own = {
    endpointSelector: web,
    egress: [{ toEndpoints: [without('app', 'NotIn', 'web')] }],
  };
  assert.equal(matched(cnp('shop/p', own)), 'db', 'of its namespace');
  assert.equal(matched(ccnp('p', own)), 'db dns', 'of any namespace');
});
