// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A fault in one object, at each stage that policy goes through (file, parser, compiler, snapshot, DNS
 * member, kernel maps): every other object is in force as if the faulty one were not there, the pods of the
 * faulty one are denied, and the next revision after the fault is gone is as if there had been none.
 */

import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { ownPrefix } from '@tandem/testing/namespace';
import * as fc from 'fast-check';
import { stringify } from 'yaml';
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
import { DirectorySource, type SourceState } from '../source/directory.ts';
import { FileCopies } from '../source/file-copies.ts';

/* ---- faults ---- */

interface Fault extends NodeFault {
  /** State of the pods when no version was good, and when one was. */
  readonly fresh: 'denied' | 'as it was';
  readonly later: 'denied' | 'as it was';
  /** Objects of the source in place of the policy. */
  readonly spoil?: (good: Raw, i: number) => readonly Raw[];
  /** Objects of the source in place of its pod. */
  readonly spoilPod?: (good: Raw, i: number) => readonly Raw[];
  /** Other objects, beside the policy and its pod. */
  readonly beside?: (i: number) => readonly Raw[];
  /** In the file of the policy; the others have one each. */
  readonly spoilText?: (good: string) => string;
  /** A file that no earlier revision has read names no pods: in the first revision it is only reported. */
  readonly onlyLater?: boolean;
  /** Named in each revision with the fault. */
  readonly names?: RegExp;
}

const specWith = (good: Raw, extra: Raw): Raw => ({
  ...good,
  spec: { ...(good['spec'] as Raw), ...extra },
});
const egressWith = (good: Raw, ...elements: readonly Raw[]): Raw =>
  specWith(good, { egress: [...((good['spec'] as Raw)['egress'] as Raw[]), ...elements] });
const metaWith = (good: Raw, extra: Raw): Raw => ({
  ...good,
  metadata: { ...(good['metadata'] as Raw), ...extra },
});
const manyCidrs = (count: number, bits: number): readonly string[] =>
  Array.from({ length: count }, (_, n) => `100.${n >> 8}.${n & 255}.0/${bits}`);

const networkPolicyOf = (i: number): Raw => ({
  ...{ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy' },
  metadata: { namespace: 'shop', name: `n${i}` },
  spec: {
    ...{ podSelector: { matchLabels: { app: `a${i}` } }, policyTypes: ['Egress'] },
    egress: [{ x: 1 }],
  },
});

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
  'a Pod with a field of another kind': {
    ...kept,
    spoilPod: (good) => [{ ...good, spec: { nodeName: 'one', containers: 5 } }],
    names: /object-invalid Pod shop\/p\d/,
  },
  'a second Pod of its name with other labels': {
    ...denied,
    spoilPod: (good) => [good, metaWith(good, { labels: { app: 'other' } })],
    names: /Pod\/shop\/p\d/,
  },
  'a Pod without labels that can be read': {
    ...kept,
    spoilPod: (good) => [metaWith(good, { labels: { app: 1 } })],
    names: /object-invalid Pod shop\/p\d/,
  },
  'a Node without an address that can be read': {
    ...harmless,
    beside: () => [
      {
        ...{ apiVersion: 'v1', kind: 'Node', metadata: { name: 'two' }, spec: { podCIDR: 'x' } },
        status: { addresses: [{ type: 'InternalIP', address: '192.0.2.999' }] },
      },
    ],
    names: /object-invalid Node two/,
  },
  'a Service without an address that can be read': {
    ...harmless,
    beside: () => [
      {
        ...{ apiVersion: 'v1', kind: 'Service', metadata: { namespace: 'shop', name: 's' } },
        spec: { clusterIPs: ['x'], ports: [{ port: 'http' }] },
      },
    ],
    names: /object-invalid Service shop\/s/,
  },
  'the Namespace of all of them': {
    ...harmless,
    beside: () => [{ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop', labels: [] } }],
    names: /object-invalid Namespace shop/,
  },
  // It can only add: what the other policy of the pod allows is allowed whatever it says.
  'a NetworkPolicy beside it': {
    ...harmless,
    beside: (i) => [networkPolicyOf(i)],
    names: /NetworkPolicy\/shop\/n\d/,
  },
  'a NetworkPolicy in its place': {
    ...denied,
    spoil: (_, i) => [networkPolicyOf(i)],
    names: /NetworkPolicy\/shop\/n\d/,
  },
  'a ClusterNetworkPolicy beside it': {
    ...denied,
    beside: (i) => [
      {
        ...{ apiVersion: 'policy.networking.k8s.io/v1alpha2', kind: 'ClusterNetworkPolicy' },
        metadata: { name: `c${i}` },
        spec: {
          ...{ tier: 'Admin', priority: 1 },
          subject: {
            pods: { namespaceSelector: {}, podSelector: { matchLabels: { app: `a${i}` } } },
          },
          egress: [{ action: 'Perhaps', to: [{ networks: ['0.0.0.0/0'] }] }],
        },
      },
    ],
    names: /ClusterNetworkPolicy\/c\d/,
  },
  'a key that stands twice in its file': {
    ...kept,
    spoilText: (good) => `${good}  egress: []\n`,
    names: /file-unreadable o\d\.yaml/,
  },
  'a quotation mark that is missing in its file': {
    ...kept,
    spoilText: (good) => `${good}  description: "x\n`,
    names: /file-unreadable o\d\.yaml/,
  },
  'a file that is no YAML at all': {
    ...kept,
    spoilText: () => '}{',
    onlyLater: true,
    names: /file-unreadable o\d\.yaml/,
  },
  'entries of policy that the kernel refuses': { ...kept, refuses: 'policy' },
  'entries of dns_servers that the kernel refuses': { ...kept, refuses: 'dns_servers' },
  'an endpoint that the kernel refuses': { ...kept, refuses: 'endpoints' },
};

/* ---- the property ---- */

const isDenied = (line: string): boolean => / (denied|refused)$|^not an endpoint$/.test(line);

const directory = mkdtempSync(join(tmpdir(), `${ownPrefix}0-one-fault-`));
after(() => rmSync(directory, { recursive: true }));

/** The objects, each in a file of its name, as the product's source reads them after a restart with `copies` of before. */
function readFiles(raws: readonly Raw[], spoil: (text: string, raw: Raw) => string): SourceState {
  const files = join(directory, 'files');
  const copies = join(directory, 'copies');
  for (const raw of raws) {
    const { name } = raw['metadata'] as { readonly name: string };
    writeFileSync(join(files, `${name}.yaml`), spoil(stringify(raw), raw));
  }
  let read: SourceState | null = null;
  const source = new DirectorySource(
    files,
    (state) => {
      read = state;
    },
    new FileCopies(copies, files),
  );
  source.start();
  source.stop();
  assert.ok(read !== null);
  return read;
}

test('one faulty object: the others are in force, its pods are denied, and its end heals at once', () => {
  const tried = new Set<string>();
  fc.assert(
    fc.property(
      fc.array(fixtures, { minLength: 2, maxLength: 4 }),
      fc.nat(3),
      fc.constantFrom(...Object.entries(faults)),
      fc.boolean(),
      (objects, at, [what, fault], isLater) => {
        tried.add(what);
        const wasGood = isLater || fault.onlyLater === true;
        const faulty = at % objects.length;
        const pods = objects.map((_, i) => podOf(i));
        const good = objects.map((object, i) => policyOf(i, specOf(i, object)));
        const spoil = (raws: readonly Raw[], how: Fault['spoil']): readonly Raw[] =>
          raws.flatMap((raw, i) => (i === faulty && how !== undefined ? how(raw, i) : [raw]));
        const spoiled = [
          ...spoil(pods, fault.spoilPod),
          ...spoil(good, fault.spoil),
          ...(fault.beside?.(faulty) ?? []),
        ];
        const alone = new FakeNode();
        alone.apply([...pods, ...good], null, -1);
        const expected = objects.map((_, pod) => alone.answers(pod));

        const tested = new FakeNode();
        const { spoilText } = fault;
        const apply = (raws: readonly Raw[], isFaulty: boolean): string => {
          const [now, which] = isFaulty ? [fault, faulty] : [null, -1];
          if (spoilText === undefined) return tested.apply(raws, now, which);
          const inFile = (text: string, raw: Raw): string =>
            isFaulty && raw === good[faulty] ? spoilText(text) : text;
          return tested.applySource(readFiles(raws, inFile), now, which);
        };
        for (const name of ['files', 'copies']) {
          rmSync(join(directory, name), { recursive: true, force: true });
          mkdirSync(join(directory, name));
        }
        if (wasGood) apply([...pods, ...good], false);
        const said = apply(spoiled, true);
        for (const pod of objects.keys()) {
          const answers = tested.answers(pod);
          if (pod !== faulty || fault[wasGood ? 'later' : 'fresh'] === 'as it was') {
            assert.deepEqual(answers, expected[pod], `${what}: pod ${pod}, faulty ${faulty}`);
          } else {
            assert.ok(answers.every(isDenied), `${what}: pod ${pod} has ${answers.join(', ')}`);
          }
        }
        if (fault.names !== undefined) assert.match(said, fault.names, what);
        else if (fault[wasGood ? 'later' : 'fresh'] === 'denied')
          assert.match(said, /shop\/(o\d|p\d|\(unnamed\))/, what);
        const healed = apply([...pods, ...good], false);
        assert.equal(healed, '', `${what}: nothing is said any more`);
        for (const pod of objects.keys()) {
          assert.deepEqual(tested.answers(pod), expected[pod], `${what}: healed, pod ${pod}`);
        }
      },
    ),
    { seed: 20261128, numRuns: 400 },
  );
  assert.deepEqual([...tried].sort(), Object.keys(faults).sort(), 'each fault was tried');
});
