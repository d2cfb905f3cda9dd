// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  basicObjects,
  ccnp,
  cnp,
  compileObjects,
  dnsRule,
  kubeDns,
  type Raw,
} from '../../../test/cluster-fixture.ts';
import { formatAddress } from '../../net/ip.ts';
import { expandPolicy } from '../compile/expand.ts';
import type { Compiled, EndpointDesired } from '../model/desired.ts';
import { EndpointFlag, Verdict } from '../model/kernel-numbers.ts';

const web = { matchLabels: { app: 'web' } };

function endpointAt(compiled: Compiled, text: string): EndpointDesired {
  const found = compiled.endpoints.find((endpoint) => formatAddress(endpoint.address) === text);
  assert(found !== undefined, text);
  return found;
}

test('an invalid policy without an earlier version holds the pods it picks at default deny', () => {
  const broken = cnp('shop/p', { endpointSelector: web, egress: [{ toServices: [] }] });
  const compiled = compileObjects([...basicObjects, broken]);
  const { flags, policyId } = endpointAt(compiled, '10.244.0.5');
  assert.equal(flags, EndpointFlag.enforceEgress);
  assert.deepEqual(compiled.policies.get(policyId)?.rules, []);
  const [diagnostic] = compiled.diagnostics;
  assert.equal(diagnostic?.code, 'policy-invalid');
  assert.match(
    diagnostic?.message ?? '',
    /spec.egress\[0\].toServices is not supported.*denied everything/,
  );

  const unreadable = { endpointSelector: { matchLabels: 3 }, egress: [{}] };
  const held = compileObjects([...basicObjects, cnp('shop/p', unreadable)]);
  assert.equal(endpointAt(held, '10.244.0.5').flags, EndpointFlag.enforceEgress);
  assert.match(held.diagnostics.at(-1)?.message ?? '', /all pods that it may select are denied/);
  const open = compileObjects([...basicObjects, ccnp('p', unreadable)]);
  assert.equal(endpointAt(open, '10.244.0.5').flags, 0);
  assert.match(open.diagnostics.at(-1)?.message ?? '', /nothing is enforced for it/);
});

test('an invalid policy is held in a direction that enableDefaultDeny alone names', () => {
  const { enforceIngress, enforceEgress } = EndpointFlag;
  const bad = [{ fromEntities: ['nobody'] }];
  const flagsWith = (enableDefaultDeny: unknown): number => {
    const spec = { endpointSelector: web, ingress: bad, enableDefaultDeny };
    return endpointAt(compileObjects([...basicObjects, cnp('shop/p', spec)]), '10.244.0.5').flags;
  };
  for (const wish of [{ egress: true }, { egress: 'true' }, { Egress: true }, true, 'both']) {
    assert.equal(flagsWith(wish), enforceIngress | enforceEgress, JSON.stringify(wish));
  }
  for (const wish of [{}, { egress: false }, { ingress: true }, null, false]) {
    assert.equal(flagsWith(wish), enforceIngress, JSON.stringify(wish));
  }
});

test('what an invalid policy may have denied stays denied, whatever others allow', () => {
  const allow = cnp('shop/allow', {
    endpointSelector: web,
    egress: [{ toEntities: ['world'] }, { toEndpoints: [kubeDns], toPorts: dnsRule('*') }],
  });
  const verdicts = (spec: Raw): readonly number[] => {
    const compiled = compileObjects([
      ...basicObjects,
      allow,
      cnp('shop/p', { endpointSelector: web, ...spec }),
    ]);
    const policy = compiled.policies.get(endpointAt(compiled, '10.244.0.5').policyId);
    assert(policy !== undefined);
    const entries = expandPolicy(policy, compiled.classTable);
    return [...new Set(entries.map(({ verdict }) => verdict))].sort();
  };
  const { allow: allowed, deny, l7Dns } = Verdict;
  assert.deepEqual(verdicts({ egress: [{ icmps: [{}] }] }), [allowed, l7Dns].sort());
  for (const spec of [
    { egressDeny: [{ toCIDR: ['10.0.0.0'], x: 1 }] },
    { egress: [{ toPorts: [{ ports: [{ port: 'https' }], rules: { http: [{}] } }] }] },
    { egress: [{}], egresDeny: [{ toCIDR: ['10.0.0.0/8'] }] },
  ]) {
    assert(verdicts(spec).includes(deny), JSON.stringify(spec));
  }
});
