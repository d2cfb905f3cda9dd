// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A fault in one object, at each stage that policy goes through (file, parser, compiler, snapshot, DNS
 * member, kernel maps): every other object is in force as if the faulty one were not there, the pods of the
 * faulty one are denied, and the next revision after the fault is gone is as if there had been none.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import {
  FakeNode,
  fixtures,
  type NodeFault,
  podOf,
  policyOf,
  type Raw,
  specOf,
  tcp,
} from '../../test/node-fixture.ts';

/* ---- faults ---- */

interface Fault extends NodeFault {
  /** State of the pods when no version was good, and when one was. */
  readonly fresh: 'denied' | 'as it was';
  readonly later: 'denied' | 'as it was';
  /** In the source. */
  readonly spoil?: (good: Raw, i: number) => readonly Raw[];
}

const specWith = (good: Raw, extra: Raw): Raw => ({
  ...good,
  spec: { ...(good['spec'] as Raw), ...extra },
});
const egressWith = (good: Raw, ...elements: readonly Raw[]): Raw =>
  specWith(good, { egress: [...((good['spec'] as Raw)['egress'] as Raw[]), ...elements] });
const manyCidrs = (count: number, bits: number): readonly string[] =>
  Array.from({ length: count }, (_, n) => `100.${n >> 8}.${n & 255}.0/${bits}`);

const kept = { fresh: 'denied', later: 'as it was' } as const;
const denied = { fresh: 'denied', later: 'denied' } as const;
const harmless = { fresh: 'as it was', later: 'as it was' } as const;

const faults: Readonly<Record<string, Fault>> = {
  'an unknown field': { ...kept, spoil: (good) => [specWith(good, { x: 1 })] },
  'an unsupported rule': { ...kept, spoil: (good) => [egressWith(good, { toServices: [{}] })] },
  'a section beside spec': { ...kept, spoil: (good) => [{ ...good, ingress: [{}] }] },
  'no name': { ...kept, spoil: (good) => [{ ...good, metadata: { namespace: 'shop' } }] },
  'another version': { ...kept, spoil: (good) => [{ ...good, apiVersion: 'cilium.io/v9' }] },
  'a label of no text': {
    ...kept,
    spoil: (good, i) => [
      specWith(good, { endpointSelector: { matchLabels: { app: `a${i}`, v: 1 } }, x: 1 }),
    ],
  },
  'a second object of its name': {
    ...denied,
    spoil: (good) => [good, egressWith(good, { toCIDR: ['100.64.0.0/10'] })],
  },
  'a name of 255 characters': {
    ...harmless,
    spoil: (good) => [egressWith(good, { toFQDNs: [{ matchName: 'a'.repeat(255) }] })],
  },
  'labels that are null': {
    ...harmless,
    spoil: (good) => [{ ...good, metadata: { ...(good['metadata'] as Raw), labels: null } }],
  },
  'more classes than fit': {
    ...denied,
    spoil: (good) => [egressWith(good, { toCIDR: manyCidrs(400, 24), toPorts: [tcp(1)] })],
  },
  'more entries than fit': {
    ...denied,
    spoil: (good) => [
      egressWith(good, {
        toCIDR: manyCidrs(50, 24),
        toPorts: [{ ports: [{ port: '1', endPort: 65_534, protocol: 'TCP' }] }],
      }),
    ],
  },
  'more DNS servers than fit': {
    ...denied,
    spoil: (good) => [
      egressWith(good, {
        toCIDR: manyCidrs(1, 25),
        toPorts: [{ ports: [{ port: '53', protocol: 'UDP' }], rules: { dns: [{}] } }],
      }),
    ],
  },
  'more DNS servers than an object may have': {
    ...denied,
    spoil: (good) => [
      egressWith(good, {
        toCIDR: manyCidrs(100, 24),
        toPorts: [{ ports: [{ port: '53', protocol: 'UDP' }], rules: { dns: [{}] } }],
      }),
    ],
  },
  'a snapshot that is too large': {
    ...denied,
    spoil: (good) => [
      egressWith(good, {
        toFQDNs: Array.from({ length: 200 }, (_, n) => ({ matchName: `${'n'.repeat(200)}${n}` })),
      }),
    ],
  },
  'a rule that compilation fails on': {
    ...denied,
    corrupt: (policy) => ({
      ...policy,
      specs: policy.specs.map((spec) => ({
        ...spec,
        rules: spec.rules.map((rule) => ({ ...rule, peers: [{ kind: 'cidr' } as never] })),
      })),
    }),
  },
  'a pattern that no member can read': {
    ...harmless,
    corrupt: (policy) => ({
      ...policy,
      specs: policy.specs.map((spec) => ({
        ...spec,
        rules: spec.rules.map((rule) =>
          rule.fqdns.length === 0
            ? rule
            : { ...rule, fqdns: [...rule.fqdns, { text: 'NO.dot', context: 'toFQDNs' as const }] },
        ),
      })),
    }),
  },
  'entries of policy that the kernel refuses': { ...kept, refuses: 'policy' },
  'entries of dns_servers that the kernel refuses': { ...kept, refuses: 'dns_servers' },
  'an endpoint that the kernel refuses': { ...kept, refuses: 'endpoints' },
};

/* ---- the property ---- */

const isDenied = (line: string): boolean => / (denied|refused)$|^not an endpoint$/.test(line);

test('one faulty object: the others are in force, its pods are denied, and its end heals at once', () => {
  fc.assert(
    fc.property(
      fc.array(fixtures, { minLength: 2, maxLength: 4 }),
      fc.nat(3),
      fc.constantFrom(...Object.entries(faults)),
      fc.boolean(),
      (objects, at, [what, fault], wasGood) => {
        const faulty = at % objects.length;
        const pods = objects.map((_, i) => podOf(i));
        const good = objects.map((object, i) => policyOf(i, specOf(i, object)));
        const spoiled = good.flatMap((raw, i) =>
          i === faulty && fault.spoil !== undefined ? fault.spoil(raw, i) : [raw],
        );
        const alone = new FakeNode();
        alone.apply([...pods, ...good], null, -1);
        const expected = objects.map((_, pod) => alone.answers(pod));

        const tested = new FakeNode();
        if (wasGood) tested.apply([...pods, ...good], null, -1);
        const said = tested.apply([...pods, ...spoiled], fault, faulty);
        for (const pod of objects.keys()) {
          const answers = tested.answers(pod);
          if (pod !== faulty || fault[wasGood ? 'later' : 'fresh'] === 'as it was') {
            assert.deepEqual(answers, expected[pod], `${what}: pod ${pod}, faulty ${faulty}`);
          } else {
            assert.ok(answers.every(isDenied), `${what}: pod ${pod} has ${answers.join(', ')}`);
          }
        }
        if (fault[wasGood ? 'later' : 'fresh'] === 'denied')
          assert.match(said, /shop\/(o\d|p\d|\(unnamed\))/, what);
        const healed = tested.apply([...pods, ...good], null, -1);
        assert.equal(healed, '', `${what}: nothing is said any more`);
        for (const pod of objects.keys()) {
          assert.deepEqual(tested.answers(pod), expected[pod], `${what}: healed, pod ${pod}`);
        }
      },
    ),
    { seed: 20261128, numRuns: 300 },
  );
});
