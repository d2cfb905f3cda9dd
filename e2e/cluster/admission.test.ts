// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The chart's admission policies, as Kubernetes' own API server evaluates them. */

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { definitions } from '@tandem/controller/definitions';
import { waitFor } from '@tandem/testing/wait';
import { ControllerBed, definitionsPath } from './controller-bed.ts';

const ciliumPath = '/apis/cilium.io/v2/namespaces/default/ciliumnetworkpolicies';
const networkPath = '/apis/networking.k8s.io/v1/namespaces/default/networkpolicies';
const bindingsPath = '/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings';
const merge = 'application/merge-patch+json';

let bed: ControllerBed;

const cnp = (more: object): object => ({
  ...{ apiVersion: 'cilium.io/v2', kind: 'CiliumNetworkPolicy', metadata: { name: 'p' } },
  ...more,
});
const spec = (more: object): object => cnp({ spec: { endpointSelector: {}, ...more } });
const egress = (...rules: readonly unknown[]): object => spec({ egress: rules });
const networkPolicy = (more: object): object => ({
  ...{ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata: { name: 'p' } },
  spec: { podSelector: {}, ...more },
});

const dns = (...names: readonly object[]): object => ({
  toEndpoints: [{ matchLabels: { 'k8s:k8s-app': 'kube-dns' } }],
  toPorts: [{ ports: [{ port: '53', protocol: 'ANY' }], rules: { dns: names } }],
});
const ports = { toPorts: [{ ports: [{ port: '443', protocol: 'TCP' }] }] };
const peers = { toEndpoints: [{}] };
const a = { matchName: 'a.example' };

/** `null`: it is taken without a word. */
const ciliumCases: readonly (readonly [what: string, object: object, trap: RegExp | null])[] = [
  ['the policy of the documentation', egress(dns(a), { toFQDNs: [a], ...ports }), null],
  ['default deny', spec({ ingress: [{}], egress: [{}] }), null],
  ['specs alone', cnp({ specs: [{ endpointSelector: {}, ingress: [{}] }] }), null],
  ['no spec at all', cnp({}), /neither spec nor specs/],
  ['empty specs', cnp({ specs: [] }), /neither spec nor specs/],
  ['an empty ingress', spec({ ingress: [] }), /empty list is none/],
  ['an empty egressDeny', spec({ egress: [peers], egressDeny: [] }), /empty list is none/],
  [
    'an empty section in the second of specs',
    cnp({ specs: [{ ingress: [{}] }, { egress: [] }] }),
    /empty list is none/,
  ],
  ['toFQDNs alone', egress({ toFQDNs: [a] }), /toFQDNs without rules\.dns/],
  [
    'toFQDNs with DNS by port alone',
    egress({ toFQDNs: [a] }, { toPorts: [{ ports: [{ port: '53' }] }], ...peers }),
    /toFQDNs without rules\.dns/,
  ],
  [
    'toFQDNs in one of specs, rules.dns in another',
    cnp({ specs: [{ egress: [{ toFQDNs: [a] }] }, { egress: [dns(a)] }] }),
    null,
  ],
  [
    'a name that cannot be looked up',
    egress(dns(a), { toFQDNs: [a, { matchName: 'b.example' }] }),
    /no rules\.dns of this object allows/,
  ],
  [
    'the same name in other letters',
    egress(dns({ matchName: 'A.Example' }), { toFQDNs: [a] }),
    null,
  ],
  [
    'a pattern that may allow it',
    egress(dns({ matchPattern: '*.example' }), { toFQDNs: [a] }),
    null,
  ],
  ['rules.dns for all names', egress(dns(), { toFQDNs: [a] }), null],
  [
    'any name',
    egress(dns({ matchPattern: '*' }), { toFQDNs: [{ matchPattern: '*' }] }),
    /every address that any answer gave/,
  ],
  [
    'a narrower pattern',
    egress(dns({ matchPattern: '*' }), { toFQDNs: [{ matchPattern: '*.a' }] }),
    null,
  ],
  ['peers and ports in two items', egress(peers, ports), /remove the dash before toPorts/],
  ['ports alone', egress(ports), null],
  ['peers alone, and others with ports', egress(peers, { ...peers, ...ports }), null],
  [
    'names beside a DNS rule for every server',
    egress({ toPorts: [{ ports: [{ port: '53' }], rules: { dns: [a] } }] }, { toFQDNs: [a] }),
    null,
  ],
  [
    'ingress in two items',
    spec({ ingress: [{ fromEntities: ['cluster'] }, ports] }),
    /ingress has a rule with peers/,
  ],
];

/** Values of a wrong type for every field. No expression may fail on them, because a failure would count as a refusal. */
const odd: readonly unknown[] = [
  null,
  true,
  1,
  1.5,
  'text',
  '',
  [],
  {},
  [null],
  [1],
  ['x'],
  [[]],
  [{}],
];

const networkCases: readonly (readonly [what: string, object: object, trap: RegExp | null])[] = [
  ['default deny of both', networkPolicy({ policyTypes: ['Ingress', 'Egress'] }), null],
  ['an empty spec', networkPolicy({}), null],
  ['no spec', { ...networkPolicy({}), spec: undefined }, null],
  [
    'egress that is not named',
    networkPolicy({ policyTypes: ['Ingress'], egress: [{ to: [{ podSelector: {} }] }] }),
    /policyTypes does not name Egress/,
  ],
  [
    'ingress that is not named',
    networkPolicy({ policyTypes: ['Egress'], ingress: [{}] }),
    /policyTypes does not name Ingress/,
  ],
  ['egress, and types by default', networkPolicy({ egress: [{}] }), null],
  [
    'peers and ports in two items',
    networkPolicy({ ingress: [{ from: [{ podSelector: {} }] }, { ports: [{ port: 80 }] }] }),
    /remove the dash before ports/,
  ],
  [
    'both in one',
    networkPolicy({ ingress: [{ from: [{ podSelector: {} }], ports: [{ port: 80 }] }] }),
    null,
  ],
  [
    'egress in two items',
    networkPolicy({
      policyTypes: ['Egress'],
      egress: [{ to: [{ podSelector: {} }] }, { ports: [{ port: 80 }] }],
    }),
    /egress has a rule with peers/,
  ],
];

/** A creation that nothing is left of. */
const tried = '?dryRun=All';
const textOf = (body: Readonly<Record<string, unknown>>): string => String(body['message'] ?? '');

describe('admission', () => {
  before(async () => {
    bed = await ControllerBed.start(['admission.traps=deny']);
    for (const { name, spec: definition } of definitions) {
      // oxlint-disable-next-line no-await-in-loop -- two
      await bed.api.call('POST', definitionsPath, {
        ...{ apiVersion: 'apiextensions.k8s.io/v1', kind: 'CustomResourceDefinition' },
        ...{ metadata: { name }, spec: definition },
      });
    }
    // Policies of admission are in force some seconds after they were made.
    for (const [path, object] of [
      [ciliumPath, cnp({})],
      [networkPath, networkPolicy({ policyTypes: ['Egress'], ingress: [{}] })],
    ] as const) {
      // oxlint-disable-next-line no-await-in-loop -- two
      await waitFor(
        async () => (await bed.api.ask('POST', `${path}${tried}`, object)).status === 422,
        {
          what: `${path} is guarded`,
          timeoutMs: 60_000,
        },
      );
    }
  });
  after(() => bed[Symbol.asyncDispose]());

  for (const [path, cases] of [
    [ciliumPath, ciliumCases],
    [networkPath, networkCases],
  ] as const) {
    for (const [what, object, trap] of cases) {
      const kind = path === ciliumPath ? 'CiliumNetworkPolicy' : 'NetworkPolicy';
      test(`${kind}: ${what} is ${trap === null ? 'taken' : 'refused'}`, async () => {
        const { status, body } = await bed.api.ask('POST', `${path}${tried}`, object);
        assert.equal(status, trap === null ? 201 : 422, textOf(body));
        if (trap !== null) assert.match(textOf(body), trap);
      });
    }
  }

  test('no expression fails, whatever stands where', async () => {
    const shapes = odd.flatMap((value) => [
      spec({ ingress: value }),
      spec({ egress: value }),
      spec({ egressDeny: value }),
      egress({ toFQDNs: value }),
      egress({ toFQDNs: [{ matchName: value }, { matchPattern: value }] }, dns(a)),
      egress({ toFQDNs: [a] }, { toPorts: value }),
      egress({ toFQDNs: [a] }, { toPorts: [{ rules: value }] }),
      egress({ toFQDNs: [a] }, { toPorts: [{ rules: { dns: value } }] }),
      egress({ toFQDNs: [a] }, dns({ matchName: value }), dns({ matchPattern: value })),
      cnp({ spec: value }),
      cnp({ specs: value }),
      cnp({ specs: [value] }),
    ]);
    const failed: string[] = [];
    for (const shape of shapes) {
      // oxlint-disable-next-line no-await-in-loop -- few at once
      const { body } = await bed.api.ask('POST', `${ciliumPath}${tried}`, shape);
      const text = textOf(body);
      if (/expression .*resulted in error|no such (key|overload)|panic|timeout/i.test(text)) {
        failed.push(`${JSON.stringify(shape)}: ${text}`);
      }
    }
    assert.deepEqual(failed, []);
  });

  test('a large policy is within the budget of the API server', async () => {
    const names = Array.from({ length: 500 }, (_, index) => ({ matchName: `n${index}.example` }));
    const rules = [dns(...names), ...names.map((name) => ({ toFQDNs: [name], ...ports }))];
    const { status, body } = await bed.api.ask('POST', `${ciliumPath}${tried}`, egress(...rules));
    assert.equal(status, 201, textOf(body).slice(0, 500));
  });

  test('with warn everything is taken, and what is wrong is said', async () => {
    for (const name of ['tandem-cilium-traps', 'tandem-networkpolicy-traps']) {
      const change = { spec: { validationActions: ['Warn', 'Audit'] } };
      // oxlint-disable-next-line no-await-in-loop -- two
      await bed.api.call('PATCH', `${bindingsPath}/${name}`, change, merge);
    }
    const object = spec({ ingress: [] });
    const answer = await waitFor(
      async () => {
        const { status, warnings } = await bed.api.ask('POST', `${ciliumPath}${tried}`, object);
        return status === 201 ? warnings.join(' ') : null;
      },
      { what: 'the change', timeoutMs: 60_000 },
    );
    assert.match(answer, /empty list is none/);
    const good = await bed.api.ask('POST', `${ciliumPath}${tried}`, spec({ ingress: [{}] }));
    assert.deepEqual(good.warnings, []);
  });
});
