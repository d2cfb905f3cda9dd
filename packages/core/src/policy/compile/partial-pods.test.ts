// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  basicObjects,
  ccnp,
  clusterOf,
  cnp,
  node,
  pod,
  type Raw,
} from '../../../test/cluster-fixture.ts';
import { Kernel } from '../../../test/kernel-fixture.ts';
import { parseObject } from '../../k8s/parse-object.ts';
import { formatAddress } from '../../net/ip.ts';
import { EndpointFlag } from '../model/kernel-numbers.ts';
import { StableIds } from '../model/stable-ids.ts';
import { compile } from './compile.ts';

test('a pod of which a label cannot be read is held by any policy of its namespace', () => {
  const parsed = parseObject(pod('shop/odd', { app: 'odd', version: 1 }, 'one', '10.244.0.9'));
  const partial = parsed.ok ? undefined : parsed.error.partial;
  assert.ok(partial?.kind === 'Pod');
  const codes: string[] = [];
  const flagsWith = (policies: readonly Raw[]): number | undefined => {
    const cluster = clusterOf([...basicObjects, ...policies]);
    const pods = new Map([...cluster.pods, ['shop/odd', partial] as const]);
    const compiled = compile({ ...cluster, pods }, { node, revision: 1 }, StableIds.empty());
    codes.push(...compiled.diagnostics.map(({ code, subject }) => `${code} ${subject}`));
    return compiled.endpoints.find(({ address }) => formatAddress(address) === '10.244.0.9')?.flags;
  };
  const spec = { endpointSelector: { matchLabels: { version: '1' } }, egress: [{}] };
  assert.equal(flagsWith([]), 0, 'without a policy there is nothing to hold for');
  assert.equal(flagsWith([cnp('kube-system/p', spec)]), 0, 'one of another namespace');
  assert.equal(flagsWith([cnp('shop/p', spec)]), EndpointFlag.hold);
  assert.equal(flagsWith([ccnp('p', spec)]), EndpointFlag.hold);
  assert.equal(codes.filter((each) => each === 'pod-unreadable Pod/shop/odd').length, 2);
});

test('a pod of which a label cannot be read is no peer by what it seems to lack', () => {
  const parsed = parseObject(pod('shop/odd', { app: 1 }, 'two', '10.244.1.9'));
  const partial = parsed.ok ? undefined : parsed.error.partial;
  assert.ok(partial?.kind === 'Pod');
  const lacks = { matchExpressions: [{ key: 'app', operator: 'DoesNotExist' }] };
  const spec = { endpointSelector: {}, ingress: [{ fromEndpoints: [lacks] }] };
  const cluster = clusterOf([...basicObjects, cnp('shop/p', spec)]);
  const pods = new Map([...cluster.pods, ['shop/odd', partial] as const]);
  const compiled = compile({ ...cluster, pods }, { node, revision: 1 }, StableIds.empty());
  const [key] = [...compiled.policies.values()].flatMap(({ peers }) => [...peers.keys()]);
  assert.deepEqual(compiled.classTable.classesOf.get(key ?? '') ?? [], []);
});

test('a pod of which a label cannot be read is denied by what may mean it', () => {
  const parsed = parseObject(pod('shop/odd', { app: 1 }, 'two', '10.244.1.9'));
  const partial = parsed.ok ? undefined : parsed.error.partial;
  assert.ok(partial?.kind === 'Pod');
  const db = { matchLabels: { app: 'db' } };
  const lacks = { matchExpressions: [{ key: 'app', operator: 'DoesNotExist' }] };
  const verdict = (section: Raw): string => {
    const cluster = clusterOf([...basicObjects, ccnp('p', { endpointSelector: {}, ...section })]);
    const pods = new Map([...cluster.pods, ['shop/odd', partial] as const]);
    const compiled = compile({ ...cluster, pods }, { node, revision: 1 }, StableIds.empty());
    const packet = { direction: 'egress', peer: '10.244.1.9', protocol: 6, port: 80 } as const;
    return new Kernel(compiled, [compiled]).judge('10.244.0.5', packet, compiled);
  };
  const egress = [{ toEntities: ['all'] }];
  assert.equal(verdict({ egress }), 'allow');
  assert.equal(verdict({ egress, egressDeny: [{ toEndpoints: [db] }] }), 'deny');
  assert.equal(verdict({ egress: [{ toEndpoints: [lacks] }] }), 'none');
  assert.equal(verdict({ egress: [{ toEntities: ['cluster'] }] }), 'allow');
});
