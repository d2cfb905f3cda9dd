// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseObject } from '@tandem/core/k8s/parse-object';
import { type FileObject, readFiles } from './read-files.ts';
import { type Finding, validateObjects } from './validate-objects.ts';

type Body = Readonly<Record<string, unknown>>;

const policy = (spec: Body, name = 'p', namespace = 'shop'): Body => ({
  apiVersion: 'cilium.io/v2',
  kind: 'CiliumNetworkPolicy',
  metadata: { name, namespace },
  spec: { endpointSelector: { matchLabels: { app: 'web' } }, ...spec },
});

/** Hints for the first object, beside the others. */
function hintsOf(...raws: readonly Body[]): string {
  const objects = raws.map(
    (raw): FileObject => ({ file: 'f.yaml', document: 1, raw, lineOf: () => 1 }),
  );
  const { findings } = validateObjects({ files: ['f.yaml'], objects, problems: [] });
  const first = parseObject(raws[0]);
  assert.ok(first.ok && 'name' in first.value);
  const { name } = first.value;
  const isOfFirst = ({ object, code }: Finding): boolean =>
    object.endsWith(name) && code === 'policy-hint';
  return findings
    .filter(isOfFirst)
    .map(({ field, message }) => `${field} ${message}`)
    .join('\n');
}

const kubeDns = {
  matchLabels: { 'k8s:io.kubernetes.pod.namespace': 'kube-system', 'k8s:k8s-app': 'kube-dns' },
};
const asks = (...dns: readonly Body[]): Body => ({
  toEndpoints: [kubeDns],
  toPorts: [{ ports: [{ port: '53', protocol: 'ANY' }], rules: { dns } }],
});
const any = asks({ matchPattern: '*' });
const plainDns = {
  toEndpoints: [kubeDns],
  toPorts: [{ ports: [{ port: '53', protocol: 'ANY' }] }],
};
const fqdn = (...names: readonly string[]): Body => ({
  toFQDNs: names.map((matchPattern) => ({ matchPattern })),
});
const db = { toEndpoints: [{ matchLabels: { app: 'db' } }] };
const toPort = (port: string): Body => ({ toPorts: [{ ports: [{ port, protocol: 'TCP' }] }] });
const node = {
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { name: 'n' },
  spec: { podCIDRs: ['10.1.0.0/24'] },
  status: { addresses: [{ type: 'InternalIP', address: '192.0.2.1' }] },
};
const service = {
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name: 's', namespace: 'shop' },
  spec: { clusterIPs: ['10.96.0.10'], ports: [{ port: 80 }] },
};

test('what is valid and seldom meant is said, with what to write', () => {
  const rows: readonly (readonly [objects: readonly Body[], hint: RegExp])[] = [
    [[policy({ egress: [{}] })], /egress\[0\] {} allows nothing.*toEntities: \[all\]/],
    [[policy({ egress: [{ ...db }, {}] })], /egress\[1\] {} allows nothing/],
    [[policy({ egress: [fqdn('a.test')] })], /toFQDNs needs a rule that says which names/],
    [[policy({ egress: [plainDns, fqdn('a.test')] })], /toFQDNs needs a rule/],
    [
      [policy({ egress: [asks({ matchName: 'b.test' }), fqdn('a.test', 'b.test')] })],
      /^spec.egress\[1\].toFQDNs "a.test" is in no rules.dns of these pods[^\n]*$/,
    ],
    [
      [policy({ egress: [asks({ matchPattern: '*.b.test' }), fqdn('*.a.test')] })],
      /"\*.a.test" is in no rules.dns/,
    ],
    [
      [policy({ egress: [any, fqdn('db.shop.svc.cluster.local')] })],
      /"db.shop.svc.cluster.local" is a name of the cluster/,
    ],
    [
      [
        policy({
          egress: [{ ...any, toEndpoints: [{ matchLabels: { 'k8s-app': 'kube-dns' } }] }, db],
        }),
      ],
      /toEndpoints\[0\] selects pods of namespace shop alone.*add k8s:io.kubernetes.pod.namespace: kube-system/,
    ],
    [
      [policy({ egress: [db, toPort('5432')] })],
      /egress\[0\] allows these peers every port, and egress\[1\] every peer its ports/,
    ],
    [
      [policy({ egressDeny: [{ toCIDR: ['169.254.169.254/32'] }] })],
      /egressDeny denies all other egress.*enableDefaultDeny: {egress: false}/,
    ],
    [
      [policy({ egress: [{ toCIDR: ['10.1.2.3/32'] }], egressDeny: [{ toCIDR: ['10.0.0.0/8'] }] })],
      /^spec.egress\[0\] allows addresses that a deny rule of this policy covers/,
    ],
    [
      [
        policy({
          egress: [
            {
              ...any,
              toPorts: [{ ports: [{ port: '53', protocol: 'UDP' }], rules: { dns: [{}] } }],
            },
            db,
          ],
        }),
      ],
      /toPorts allows DNS over UDP alone/,
    ],
    [[policy({ egress: [asks({ matchName: 'a.test' })] })], /allows queries of these pods, and no/],
    [[policy({ egress: [{ toCIDR: ['10.1.0.0/25'] }] }), node], /addresses of pods, which no CIDR/],
    [
      [policy({ egress: [{ toCIDR: ['192.0.2.1/32'] }] }), node],
      /addresses of nodes, which no CIDR/,
    ],
    [[policy({ egress: [{ toCIDR: ['10.96.0.10/32'] }] }), service], /addresses of a Service/],
    [
      [
        {
          ...policy({ ingress: [{ fromEndpoints: [{}] }] }),
          kind: 'CiliumClusterwideNetworkPolicy',
        },
      ],
      /metadata.namespace counts for nothing/,
    ],
  ];
  for (const [objects, hint] of rows) {
    assert.match(hintsOf(...objects), hint, JSON.stringify(objects[0]));
  }
});

test('what is meant so has no hint', () => {
  const rows: readonly (readonly Body[])[] = [
    [policy({ egress: [{}] }, 'default-deny')],
    [policy({ ingress: [{}], egress: [{}] })],
    [policy({ egress: [any, fqdn('a.test')] })],
    [policy({ egress: [asks({ matchPattern: '**.test' }), fqdn('a.b.test')] })],
    [policy({ egress: [asks({ matchName: 'a.test' }), fqdn('*.test', 'a.*')] })],
    // Another policy of the namespace, or of all, may say it.
    [policy({ egress: [fqdn('a.test')] }), policy({ egress: [any] }, 'names')],
    [
      policy({ egress: [asks({ matchName: 'a.test' })] }),
      policy({ egress: [fqdn('a.test')] }, 'c'),
    ],
    [
      policy({ egress: [fqdn('a.test')] }),
      {
        apiVersion: 'cilium.io/v2',
        kind: 'CiliumClusterwideNetworkPolicy',
        metadata: { name: 'all' },
        spec: { endpointSelector: {}, egress: [any] },
      },
    ],
    [policy({ egressDeny: [{ toCIDR: ['192.0.2.0/24'] }] }), policy({ egress: [db] }, 'allow')],
    [
      policy({
        egressDeny: [{ toCIDR: ['192.0.2.0/24'] }],
        enableDefaultDeny: { egress: false },
      }),
    ],
    [
      policy({
        egress: [{ toCIDR: ['10.1.2.3/32'] }],
        egressDeny: [{ toCIDRSet: [{ cidr: '10.0.0.0/8', except: ['10.1.2.0/24'] }] }],
      }),
    ],
    [policy({ egress: [{ ...db, ...toPort('5432') }, toPort('80')] })],
    [policy({ egress: [{ toCIDR: ['10.0.0.0/8'] }] }), node],
  ];
  for (const objects of rows) assert.equal(hintsOf(...objects), '', JSON.stringify(objects));
});

test('a directory as people have it: other kinds and kustomizations are passed over', () => {
  const directory = new URL('../../test/fixtures/people', import.meta.url).pathname;
  const found = validateObjects(readFiles(directory, { isRecursive: true }));
  assert.deepEqual(found.findings, []);
  assert.deepEqual([found.files, found.policies, found.passedOver], [4, 2, 4]);
});
