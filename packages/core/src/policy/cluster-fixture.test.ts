// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Objects and clusters for the tests of this folder; it has one test of its own. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatAddress, type Prefix, parseAddress, parsePrefix } from '../net/ip.ts';
import { ClusterObjects } from './cluster-objects.ts';
import type { ClusterState, NodeContext } from './cluster-state.ts';
import { compile } from './compile.ts';
import type { Compiled, MemberRuleSet } from './desired.ts';
import { StableIds } from './stable-ids.ts';

export type Raw = Readonly<Record<string, unknown>>;

export function address(text: string): Uint8Array {
  const bytes = parseAddress(text);
  assert(bytes !== null, text);
  return bytes;
}

export function prefix(text: string): Prefix {
  const parsed = parsePrefix(text);
  assert(parsed !== null, text);
  return parsed;
}

/** This node is "one": pods in 10.244.0.0/24 and fd00:244::/64, node address 192.168.0.1. */
export const node: NodeContext = {
  nodeName: 'one',
  localAddresses: [address('192.168.0.1'), address('169.254.1.1')],
  clusterCidrs: [],
  serviceCidrs: [prefix('10.96.0.0/16')],
  nodeLocalDns: [],
  clusterName: 'default',
};

export function namespace(name: string, labels: Raw = {}): Raw {
  return { apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels } };
}

export function nodeObject(name: string, ip: string, ...podCIDRs: readonly string[]): Raw {
  const status = {
    addresses: [
      { type: 'InternalIP', address: ip },
      { type: 'Hostname', address: name },
    ],
  };
  return { apiVersion: 'v1', kind: 'Node', metadata: { name }, spec: { podCIDRs }, status };
}

/** `path` is namespace/name. */
export function pod(path: string, labels: Raw, nodeName: string, ...ips: readonly string[]): Raw {
  const [namespaceName, name] = path.split('/');
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { namespace: namespaceName, name, uid: `uid-${path}`, labels },
    spec: { nodeName },
    status: { phase: 'Running', podIPs: ips.map((ip) => ({ ip })) },
  };
}

export interface PortFixture {
  readonly name: string;
  readonly port: number;
  readonly target: number;
  readonly protocol: string;
}

export const dnsPorts: readonly PortFixture[] = [
  { name: 'dns', port: 53, target: 53, protocol: 'UDP' },
  { name: 'dns-tcp', port: 53, target: 53, protocol: 'TCP' },
];

/** A Service and its slice. */
export function service(
  path: string,
  clusterIP: string,
  ports: readonly PortFixture[],
  ...backends: readonly string[]
): readonly Raw[] {
  const [namespaceName, name] = path.split('/');
  const addressType = clusterIP.includes(':') ? 'IPv6' : 'IPv4';
  return [
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { namespace: namespaceName, name },
      spec: {
        clusterIP,
        clusterIPs: [clusterIP],
        ports: ports.map((entry) => ({
          name: entry.name,
          port: entry.port,
          protocol: entry.protocol,
        })),
      },
    },
    {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      addressType,
      metadata: {
        namespace: namespaceName,
        name: `${name}-${addressType}`,
        labels: { 'kubernetes.io/service-name': name },
      },
      endpoints: backends.map((backend) => ({ addresses: [backend] })),
      ports: ports.map((entry) => ({
        name: entry.name,
        port: entry.target,
        protocol: entry.protocol,
      })),
    },
  ];
}

export function cnp(path: string, spec: Raw): Raw {
  const [namespaceName, name] = path.split('/');
  const metadata = { namespace: namespaceName, name };
  return { apiVersion: 'cilium.io/v2', kind: 'CiliumNetworkPolicy', metadata, spec };
}

export function ccnp(name: string, spec: Raw): Raw {
  const kind = 'CiliumClusterwideNetworkPolicy';
  return { apiVersion: 'cilium.io/v2', kind, metadata: { name }, spec };
}

/** A cluster of objects that can all be read. */
export function clusterOf(objects: readonly Raw[]): ClusterState {
  const cluster = new ClusterObjects();
  for (const [index, object] of objects.entries()) {
    const applied = cluster.apply(object, `object ${index}`);
    assert(applied.ok, applied.ok ? '' : JSON.stringify(applied.error));
  }
  return cluster.snapshot();
}

export function compileObjects(
  objects: readonly Raw[],
  options: { readonly node?: Partial<NodeContext>; readonly retain?: readonly Compiled[] } = {},
  ids: StableIds = StableIds.empty(),
): Compiled {
  const context = { ...node, ...options.node };
  const retain = options.retain ?? [];
  return compile(clusterOf(objects), { node: context, revision: 1, retain }, ids);
}

/** Two nodes, two namespaces, the cluster's DNS and a few pods. */
export const basicObjects: readonly Raw[] = [
  namespace('shop', { team: 'shop' }),
  namespace('kube-system'),
  nodeObject('one', '192.168.0.1', '10.244.0.0/24', 'fd00:244::/64'),
  nodeObject('two', '192.168.0.2', '10.244.1.0/24', 'fd00:244:0:1::/64'),
  pod('shop/web', { app: 'web' }, 'one', '10.244.0.5', 'fd00:244::5'),
  pod('shop/db', { app: 'db' }, 'two', '10.244.1.5'),
  pod('kube-system/dns', { 'k8s-app': 'kube-dns' }, 'two', '10.244.1.53'),
  ...service('kube-system/kube-dns', '10.96.0.10', dnsPorts, '10.244.1.53'),
];

export const kubeDns: Raw = {
  matchLabels: { 'k8s:io.kubernetes.pod.namespace': 'kube-system', 'k8s-app': 'kube-dns' },
};

/** toPorts of a DNS rule for UDP. */
export function dnsRule(...patterns: readonly string[]): readonly Raw[] {
  const dns = patterns.map((matchPattern) => ({ matchPattern }));
  return [{ ports: [{ port: '53', protocol: 'UDP' }], rules: { dns } }];
}

/** `address/protocol` -> names, for the only policy with DNS servers. */
export function serversOf(compiled: Compiled): Readonly<Record<string, string>> {
  const servers: Record<string, string> = {};
  const ruleSets = new Map(compiled.members.ruleSets.map((ruleSet) => [ruleSet.id, ruleSet]));
  const policyIds = new Set(compiled.dnsServers.map(({ policyId }) => policyId));
  assert(policyIds.size <= 1, 'one policy');
  for (const { server, protocol, ruleSetId } of compiled.dnsServers) {
    const names = namesOf(compiled, ruleSets.get(ruleSetId));
    servers[`${formatAddress(server)}/${protocol === 6 ? 'tcp' : 'udp'}`] = names;
  }
  return servers;
}

function namesOf(compiled: Compiled, ruleSet: MemberRuleSet | undefined): string {
  assert(ruleSet !== undefined);
  if (ruleSet.matchAll) return 'all';
  return ruleSet.patternIndexes.map((index) => compiled.members.patterns[index]?.text).join(' ');
}

test('the basic cluster compiles without policy and without a word', () => {
  const compiled = compileObjects(basicObjects);
  assert.deepEqual(compiled.diagnostics, []);
  assert.equal(compiled.fits, true);
  assert.deepEqual(
    compiled.endpoints.map(({ address: bytes, flags }) => [formatAddress(bytes), flags]),
    [
      ['10.244.0.5', 0],
      ['fd00:244::5', 0],
    ],
  );
});
