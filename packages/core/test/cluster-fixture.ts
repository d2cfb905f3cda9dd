// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Objects and clusters for the tests of this folder. */

import assert from 'node:assert/strict';
import {
  type EndpointSlice,
  type LocalRedirectPolicy,
  type Namespace,
  type Node,
  objectKey,
  type Pod,
  type Service,
} from '../src/k8s/objects.ts';
import { parseObject } from '../src/k8s/parse-object.ts';
import { formatAddress, type Prefix, parseAddress, parsePrefix } from '../src/net/ip.ts';
import { compile } from '../src/policy/compile/compile.ts';
import type { ClusterState, NodeContext, PolicyState } from '../src/policy/model/cluster-state.ts';
import type {
  Compiled,
  EndpointDesired,
  MemberPolicy,
  MemberRuleSet,
} from '../src/policy/model/desired.ts';
import { formatPolicyRef } from '../src/policy/model/rule.ts';
import { StableIds } from '../src/policy/model/stable-ids.ts';
import { parsePolicy } from '../src/policy/parse/parse-policy.ts';

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

/** A cluster of objects that can all be read. Invalid policies have no earlier version. */
export function clusterOf(objects: readonly Raw[]): ClusterState {
  const namespaces = new Map<string, Namespace>();
  const nodes = new Map<string, Node>();
  const pods = new Map<string, Pod>();
  const services = new Map<string, Service>();
  const endpointSlices = new Map<string, EndpointSlice>();
  const redirectPolicies = new Map<string, LocalRedirectPolicy>();
  const policies = new Map<string, PolicyState>();
  for (const raw of objects) {
    const parsed = parseObject(raw);
    assert(parsed.ok, parsed.ok ? '' : JSON.stringify(parsed.error));
    const object = parsed.value;
    const key = objectKey(object);
    if (object.kind === 'Namespace') namespaces.set(key, object);
    else if (object.kind === 'Node') nodes.set(key, object);
    else if (object.kind === 'Pod') pods.set(key, object);
    else if (object.kind === 'Service') services.set(key, object);
    else if (object.kind === 'EndpointSlice') endpointSlices.set(key, object);
    else if (object.kind === 'CiliumLocalRedirectPolicy') redirectPolicies.set(key, object);
    else if (object.kind !== 'unsupported') {
      const policy = parsePolicy(object);
      const ref = formatPolicyRef(policy.ok ? policy.value.ref : policy.error.ref);
      policies.set(ref, {
        inForce: policy.ok ? policy.value : null,
        invalid: policy.ok ? null : policy.error,
      });
    }
  }
  const known = { namespaces, nodes, pods, services, endpointSlices, redirectPolicies };
  return { ...known, policies, diagnostics: [] };
}

/** The policy of a node-local cache: Service kube-dns to pods with the label k8s-app=node-local-dns. */
export function redirectPolicy(path: string, frontend: Raw, ports?: readonly Raw[]): Raw {
  const [namespaceName, name] = path.split('/');
  return {
    apiVersion: 'cilium.io/v2',
    kind: 'CiliumLocalRedirectPolicy',
    metadata: { namespace: namespaceName, name },
    spec: {
      redirectFrontend: frontend,
      redirectBackend: {
        localEndpointSelector: { matchLabels: { 'k8s-app': 'node-local-dns' } },
        toPorts: ports ?? [
          { port: '53', name: 'dns', protocol: 'UDP' },
          { port: '53', name: 'dns-tcp', protocol: 'TCP' },
        ],
      },
    },
  };
}

/** A pod that kubelet calls ready. */
export function readyPod(raw: Raw, isReady = true): Raw {
  const conditions = [{ type: 'Ready', status: isReady ? 'True' : 'False' }];
  return { ...raw, status: { ...(raw['status'] as Raw), conditions } };
}

export function compileObjects(
  objects: readonly Raw[],
  options: {
    readonly node?: Partial<NodeContext>;
    readonly retain?: readonly Compiled[];
    readonly served?: MemberPolicy;
  } = {},
  ids: StableIds = StableIds.empty(),
): Compiled {
  const context = { ...node, ...options.node };
  const { retain = [], served } = options;
  const rest = served === undefined ? { retain } : { retain, served };
  return compile(clusterOf(objects), { node: context, revision: 1, ...rest }, ids);
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

export function endpointAt(compiled: Compiled, text: string): EndpointDesired {
  const found = compiled.endpoints.find((endpoint) => formatAddress(endpoint.address) === text);
  assert(found !== undefined, text);
  return found;
}

export function codes(compiled: Compiled): readonly string[] {
  return compiled.diagnostics.map(({ code, subject }) => `${code} ${subject}`);
}

export const web = { matchLabels: { app: 'web' } };
export const toWorld: Raw = { egress: [{ toEntities: ['world'] }] };
