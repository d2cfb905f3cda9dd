// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Diagnostics of DNS rules that steer nothing, word by word where it is the fix. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  basicObjects,
  cnp,
  compileObjects,
  dnsPorts,
  kubeDns,
  pod,
  type Raw,
  service,
} from '../../../test/cluster-fixture.ts';

const toDns = { toEndpoints: [kubeDns] };
const dnsOn = (port: string): Raw => ({
  ports: [{ port, protocol: 'UDP' }],
  rules: { dns: [{ matchName: 'a' }] },
});
const plainOn = (port: string): Raw => ({ ports: [{ port, protocol: 'UDP' }] });
const rule = (peers: Raw, ...ports: readonly string[]): Raw => ({
  ...peers,
  toPorts: (ports.length === 0 ? ['53'] : ports).map(dnsOn),
});
/** kube-dns as clusters have it whose DNS pods do not run as root. */
const highPort = service(
  'kube-system/kube-dns',
  '10.96.0.10',
  dnsPorts.map((port) => ({ ...port, target: 8053 })),
  '10.244.1.53',
);

function says(egress: readonly Raw[], objects: readonly Raw[] = []): readonly string[] {
  const policy = cnp('shop/p', { endpointSelector: {}, egress });
  const { diagnostics } = compileObjects([...basicObjects, ...objects, policy]);
  return diagnostics.map(({ severity, code, subject, message }) => {
    const field = subject.replace('CiliumNetworkPolicy/shop/p: spec.', '');
    return `${severity} ${code} ${field}: ${message}`;
  });
}

const rows: Readonly<
  Record<string, { egress: readonly Raw[]; objects?: readonly Raw[]; want: readonly RegExp[] }>
> = {
  'labels that no pod has': {
    egress: [rule({ toEndpoints: [{ matchLabels: { app: 'dns' } }] })],
    want: [/^warning dns-rule-without-server egress\[0\]: .* no pod has .*app=dns.*hostNetwork/],
  },
  'the namespace forgotten': {
    egress: [rule({ toEndpoints: [{ matchLabels: { 'k8s-app': 'kube-dns' } }] })],
    want: [
      /no pod has io.kubernetes.pod.namespace=shop, k8s-app=kube-dns \(pods of namespace kube-system .*: add "k8s:io.kubernetes.pod.namespace: kube-system"\)/,
    ],
  },
  'one of two selectors has pods': {
    egress: [rule({ toEndpoints: [{ matchLabels: { app: 'cache' } }, kubeDns] })],
    want: [],
  },
  'port 53 where the pods listen on 8053': {
    egress: [rule(toDns)],
    objects: highPort,
    want: [
      /^warning dns-backend-port egress\[0\]: names port 53, but port 53 of Service\/kube-system\/kube-dns leads to port 8053 .* dropped\. .*write port 8053$/,
    ],
  },
  'port 8053 where the pods listen on 8053': {
    egress: [rule(toDns, '8053')],
    objects: highPort,
    want: [],
  },
  'both ports, one toPorts each': {
    egress: [rule(toDns, '53', '8053')],
    objects: highPort,
    want: [],
  },
  'both ports in one list': {
    egress: [
      {
        ...toDns,
        toPorts: [
          {
            ports: [
              { port: '53', protocol: 'UDP' },
              { port: '8053', protocol: 'UDP' },
            ],
            rules: { dns: [{ matchName: 'a' }] },
          },
        ],
      },
    ],
    want: [],
  },
  'port 53 by name, the port of the pods allowed whole': {
    egress: [rule(toDns), { ...toDns, toPorts: [plainOn('8053')] }],
    objects: highPort,
    want: [
      /^warning dns-backend-port egress\[0\]: .* pass by another rule without being filtered by name/,
    ],
  },
  'port 5353 of every peer where the cluster’s DNS listens on 53': {
    egress: [rule({}, '5353')],
    want: [/^warning dns-backend-port egress\[0\]: names port 5353, .* write port 53$/],
  },
  'port 53 of every peer where the cluster’s DNS listens on 8053': {
    egress: [rule({})],
    objects: highPort,
    want: [
      /^warning dns-backend-port egress\[0\]: names port 53, but port 53 of Service\/kube-system/,
    ],
  },
  'port 53 of every peer, and some Service that leads elsewhere': {
    egress: [rule({})],
    objects: service(
      'shop/other',
      '10.96.0.99',
      [{ name: 'dns', port: 53, target: 8053, protocol: 'UDP' }],
      '10.244.1.5',
    ),
    want: [],
  },
  'a Service whose backends the policy denies': {
    egress: [rule(toDns)],
    objects: [
      ...highPort,
      cnp('shop/deny', {
        endpointSelector: {},
        egressDeny: [{ ...toDns, toPorts: [plainOn('8053')] }],
      }),
    ],
    want: [],
  },
  'rules for both ports, of which one is of use': {
    egress: [rule(toDns, '53'), rule(toDns, '5353')],
    want: [],
  },
  'rules for both ports, of which the other one is of use': {
    egress: [rule(toDns, '53'), rule(toDns, '8053')],
    objects: highPort,
    want: [],
  },
  'port 5353 where the pods listen on 53': {
    egress: [rule(toDns, '5353')],
    want: [/^warning dns-backend-port egress\[0\]: names port 5353, .* write port 53$/],
  },
  'a port that no Service leads to': {
    egress: [rule({ toEndpoints: [{ matchLabels: { app: 'db' } }] }, '5353')],
    want: [
      /only queries to port 53 are steered, and no Service leads from there to port 5353 of pods with/,
    ],
  },
  'every peer on a port that no Service leads to': {
    egress: [rule({}, '5353')],
    objects: service('kube-system/kube-dns', '10.96.0.10', dnsPorts),
    want: [/no Service leads from there to port 5353 of any peer/],
  },
  'a server outside on another port': {
    egress: [rule({ toCIDR: ['203.0.113.5/32'] }, '5353')],
    want: [
      /no Service leads from there to port 5353 of 203.0.113.5\/32: .*53 for servers without a Service/,
    ],
  },
  'a ClusterIP': {
    egress: [rule({ toCIDR: ['10.96.0.10/32'] })],
    want: [
      /10\.96\.0\.10\/32 is an address of a Service, which no CIDR selects: name its pods in toEndpoints/,
    ],
  },
  'a pod': {
    egress: [rule({ toCIDR: ['10.244.1.53/32'] })],
    want: [/10\.244\.1\.53\/32 belongs to pods, which no CIDR selects/],
  },
  'nodes by a CIDR of several addresses': {
    egress: [rule({ toCIDRSet: [{ cidr: '192.168.0.2/31', except: ['192.168.0.3/32'] }] })],
    want: [
      /192\.168\.0\.2\/31 begins with 192\.168\.0\.2 of a node.* write it as \/32 or \/128, or use toEntities/,
    ],
  },
  'a CIDR with nothing left': {
    egress: [rule({ toCIDRSet: [{ cidr: '203.0.113.4/32', except: ['203.0.113.4/32'] }] })],
    want: [/nothing is left of 203\.0\.113\.4\/32: correct except/],
  },
  'an entity that nothing has': {
    egress: [rule({ toEntities: ['kube-apiserver'] })],
    want: [/entity kube-apiserver has no address here/],
  },
  'many peers': {
    egress: [
      rule({ toEndpoints: ['a', 'b', 'c', 'd', 'e'].map((app) => ({ matchLabels: { app } })) }),
    ],
    want: [/app=a,.*; .*; .*; and 2 more$/],
  },
  'entity world is an error that names the rule, and said once': {
    egress: [rule({ toEntities: ['world'] })],
    want: [
      /^error dns-servers-not-listed egress\[0\]: rules\.dns for "entity world": .*each by its address in toCIDR/,
    ],
  },
  'a server of the rule that another rule denies': {
    egress: [rule(toDns)],
    objects: [cnp('shop/deny', { endpointSelector: {}, egressDeny: [toDns] })],
    want: [],
  },
  'a pod of the rule without a Service': {
    egress: [rule({ toEndpoints: [{ matchLabels: { app: 'cache' } }] })],
    objects: [pod('shop/cache', { app: 'cache' }, 'two', '10.244.1.77')],
    want: [],
  },
};

for (const [name, { egress, objects, want }] of Object.entries(rows)) {
  test(name, () => {
    const said = says(egress, objects);
    assert.equal(said.length, want.length, said.join('\n'));
    want.forEach((pattern, index) => assert.match(said[index] ?? '', pattern));
  });
}

test('rules that are only in policies of other nodes are not said here', () => {
  const policy = cnp('shop/p', {
    endpointSelector: { matchLabels: { app: 'db' } },
    egress: [rule({ toEndpoints: [{ matchLabels: { app: 'nothing' } }] })],
  });
  assert.deepEqual(compileObjects([...basicObjects, policy]).diagnostics, []);
});
