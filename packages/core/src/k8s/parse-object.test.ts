// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatAddress, formatPrefix } from '../net/ip.ts';
import { type K8sObject, objectKey, type PolicyObject } from './objects.ts';
import { parseObject } from './parse-object.ts';

type Raw = Readonly<Record<string, unknown>>;

type ObjectOf<Kind> = Kind extends PolicyObject['kind']
  ? PolicyObject
  : Extract<K8sObject, { kind: Kind }>;

function read<Kind extends K8sObject['kind']>(kind: Kind, raw: Raw): ObjectOf<Kind> {
  const parsed = parseObject(raw);
  assert(parsed.ok, parsed.ok ? '' : JSON.stringify(parsed.error));
  assert.equal(parsed.value.kind, kind);
  return parsed.value as ObjectOf<Kind>;
}

const pod: Raw = {
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: {
    namespace: 'shop',
    name: 'web',
    uid: 'u',
    labels: { app: 'web' },
    annotations: { 'tandem.dev/interface': 'veth1', other: 'x' },
    creationTimestamp: '2026-01-01T00:00:00Z',
  },
  spec: { nodeName: 'one', serviceAccountName: 'runner', containers: [{ name: 'c' }] },
  status: { phase: 'Running', podIPs: [{ ip: '10.0.0.1' }, { ip: 'fd00::1' }] },
};

test('Pod', () => {
  const { addresses, labels, ...rest } = read('Pod', pod);
  assert.deepEqual(
    addresses.map((each) => formatAddress(each)),
    ['10.0.0.1', 'fd00::1'],
  );
  assert.deepEqual([...labels], [['app', 'web']]);
  assert.deepEqual(rest, {
    kind: 'Pod',
    namespace: 'shop',
    name: 'web',
    uid: 'u',
    nodeName: 'one',
    hostNetwork: false,
    serviceAccount: 'runner',
    isFinished: false,
    isDeleting: false,
    createdSeconds: 1_767_225_600,
    interfaceName: 'veth1',
  });
});

test('Pod: defaults, single address, phases, dates as YAML parses them', () => {
  const bare = read('Pod', { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'p' } });
  assert.equal(objectKey(bare), 'default/p');
  assert.deepEqual(
    [bare.nodeName, bare.serviceAccount, bare.addresses, bare.createdSeconds],
    ['', 'default', [], 0],
  );
  assert.equal('interfaceName' in bare, false);
  const metadata = {
    name: 'p',
    creationTimestamp: new Date(90_000),
    deletionTimestamp: new Date(1),
  };
  const status = { phase: 'Failed', podIP: '10.0.0.9' };
  const done = read('Pod', {
    ...pod,
    metadata,
    status,
    spec: { hostNetwork: true, serviceAccountName: '' },
  });
  assert.deepEqual(
    [done.isFinished, done.isDeleting, done.hostNetwork, done.serviceAccount],
    [true, true, true, 'default'],
  );
  assert.equal(done.createdSeconds, 90);
  assert.deepEqual(
    done.addresses.map((each) => formatAddress(each)),
    ['10.0.0.9'],
  );
});

test('Namespace and Node are of the cluster', () => {
  const metadata = { name: 'one', namespace: 'odd', labels: { a: 'b' } };
  assert.equal(
    objectKey(read('Namespace', { apiVersion: 'v1', kind: 'Namespace', metadata })),
    '/one',
  );
  const node = read('Node', {
    apiVersion: 'v1',
    kind: 'Node',
    metadata,
    spec: { podCIDR: '10.0.0.0/24', podCIDRs: ['10.0.0.0/24', 'fd00::/64'] },
    status: {
      addresses: [
        { type: 'InternalIP', address: '192.0.2.1' },
        { type: 'Hostname', address: 'one' },
        { type: 'ExternalDNS', address: 'one.example' },
        { type: 'ExternalIP', address: '2001:db8::1' },
      ],
    },
  });
  assert.equal(objectKey(node), '/one');
  assert.deepEqual(node.podCidrs.map(formatPrefix), ['10.0.0.0/24', 'fd00::/64']);
  assert.deepEqual(
    node.addresses.map((each) => formatAddress(each)),
    ['192.0.2.1', '2001:db8::1'],
  );
  const single = read('Node', {
    apiVersion: 'v1',
    kind: 'Node',
    metadata,
    spec: { podCIDR: '10.1.0.0/24' },
  });
  assert.deepEqual(single.podCidrs.map(formatPrefix), ['10.1.0.0/24']);
});

test('Service: ClusterIPs, headless, external name', () => {
  const service = (spec: Raw) =>
    read('Service', { apiVersion: 'v1', kind: 'Service', metadata: { name: 's' }, spec });
  const ports = [{ name: 'dns', port: 53, protocol: 'UDP', targetPort: 'dns' }, { port: 80 }];
  const both = service({ clusterIP: '10.96.0.1', clusterIPs: ['10.96.0.1', 'fd00::1'], ports });
  assert.deepEqual(
    both.clusterIps.map((each) => formatAddress(each)),
    ['10.96.0.1', 'fd00::1'],
  );
  assert.deepEqual(both.ports, [
    { name: 'dns', port: 53, protocol: 'UDP', targetPort: 0 },
    { name: '', port: 80, protocol: 'TCP', targetPort: 80 },
  ]);
  const [other] = service({ ports: [{ port: 53, targetPort: 1053 }] }).ports;
  assert.equal(other?.targetPort, 1053);
  assert.deepEqual(service({ selector: { app: 'a' } }).selector, new Map([['app', 'a']]));
  assert.equal(service({ selector: { app: 1, tier: 'b' } }).selector.size, 0, 'no part of it');
  assert.deepEqual(service({ clusterIP: 'None', clusterIPs: ['None'] }).clusterIps, []);
  assert.deepEqual(service({ type: 'ExternalName', externalName: 'a.b' }).clusterIps, []);
});

test('EndpointSlice: which endpoints are ready and usable', () => {
  const rows: [conditions: Raw | undefined, isReady: boolean, isUsable: boolean][] = [
    [undefined, true, true],
    [{}, true, true],
    [{ ready: true }, true, true],
    [{ ready: false }, false, false],
    [{ ready: false, serving: true, terminating: true }, false, true],
    [{ ready: false, serving: true }, false, false],
    [{ ready: false, serving: false, terminating: true }, false, false],
  ];
  for (const [index, [conditions, isReady, isUsable]] of rows.entries()) {
    const slice = read('EndpointSlice', {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { name: 'x', labels: { 'kubernetes.io/service-name': 's' } },
      addressType: 'IPv4',
      endpoints: [{ addresses: ['10.0.0.1'], ...(conditions === undefined ? {} : { conditions }) }],
      ports: [{ name: 'dns', port: 53, protocol: 'UDP' }, { name: 'every' }],
    });
    assert.equal(slice.serviceName, 's');
    const [endpoint] = slice.endpoints;
    assert.deepEqual([endpoint?.isReady, endpoint?.isUsable], [isReady, isUsable], `${index}`);
    assert.deepEqual(slice.ports, [{ name: 'dns', port: 53, protocol: 'UDP' }]);
  }
});

test('of an endpoint its first address counts, as for kube-proxy, and of Services no labels', () => {
  const addresses = ['10.0.0.1', ...Array.from({ length: 99 }, (_, i) => `10.0.1.${i}`)];
  const metadata = { name: 'x', labels: { 'kubernetes.io/service-name': 's', more: 'x' } };
  const slice = read('EndpointSlice', {
    ...{ apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice', metadata },
    addressType: 'IPv4',
    endpoints: [{ addresses }, { addresses: [] }],
  });
  assert.deepEqual(
    slice.endpoints.map(({ address }) => formatAddress(address)),
    ['10.0.0.1'],
  );
  const service = read('Service', { apiVersion: 'v1', kind: 'Service', metadata, spec: {} });
  assert.deepEqual([slice.labels.size, service.labels.size], [0, 0]);
});

test('the API server’s null lists are empty ones: of a Service without endpoints, of others that could be', () => {
  const slice = read('EndpointSlice', {
    ...{ apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice' },
    metadata: { name: 'x', labels: { 'kubernetes.io/service-name': 's' } },
    ...{ addressType: 'IPv4', endpoints: null, ports: null },
  });
  assert.deepEqual([slice.serviceName, slice.endpoints, slice.ports], ['s', [], []]);
  const spec = { clusterIP: '10.96.0.10', clusterIPs: null, ports: null };
  const service = read('Service', {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 's' },
    spec,
  });
  assert.deepEqual(service.clusterIps.map(formatAddress), ['10.96.0.10']);
  const status = { podIP: '10.0.0.1', podIPs: null, conditions: null };
  const empty = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'p' },
    spec: { containers: null },
  };
  assert.deepEqual(read('Pod', { ...empty, status }).namespace, 'default');
});

test('an FQDN slice has no addresses', () => {
  const slice = read('EndpointSlice', {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name: 'x' },
    addressType: 'FQDN',
    endpoints: [{ addresses: ['a.b'] }],
  });
  assert.deepEqual(slice.endpoints, []);
  assert.equal(slice.serviceName, '');
});

test('policies keep their body unread', () => {
  const raw = {
    apiVersion: 'cilium.io/v2',
    metadata: { name: 'p', namespace: 'a' },
    spec: 7,
    specs: null,
  };
  const policy = read('CiliumNetworkPolicy', { ...raw, kind: 'CiliumNetworkPolicy' });
  assert.deepEqual([policy.namespace, policy.spec, policy.specs], ['a', 7, null]);
  const clusterwide = read('CiliumClusterwideNetworkPolicy', {
    ...raw,
    kind: 'CiliumClusterwideNetworkPolicy',
  });
  assert.equal(clusterwide.namespace, '');
});

test('kinds that are not acted upon are values, and policies among them are marked', () => {
  const rows: [apiVersion: string, kind: string, isPolicy: boolean][] = [
    ['crd.projectcalico.org/v1', 'NetworkPolicy', true],
    ['crd.antrea.io/v1beta1', 'ClusterNetworkPolicy', true],
    ['networking.k8s.aws/v1alpha1', 'ClusterNetworkPolicy', true],
    ['cilium.io/v2', 'CiliumCIDRGroup', true],
    ['cilium.io/v2alpha1', 'CiliumLocalRedirectPolicy', true],
    ['crd.projectcalico.org/v1', 'GlobalNetworkPolicy', true],
    ['policy.networking.k8s.io/v1alpha1', 'AdminNetworkPolicy', true],
    ['policy.networking.k8s.io/v1alpha1', 'AdminNetworkPolicyList', true],
    ['networking.k8s.io/v1', 'NetworkPolicyList', true],
    ['cilium.io/v2alpha1', 'CiliumL2AnnouncementPolicy', false],
    ['kyverno.io/v1', 'ClusterPolicy', false],
    ['security.istio.io/v1', 'AuthorizationPolicy', false],
    ['gateway.networking.k8s.io/v1', 'BackendTLSPolicy', false],
    ['image.toolkit.fluxcd.io/v1beta2', 'ImagePolicy', false],
    ['apps/v1', 'Deployment', false],
    ['v2', 'Pod', false],
    ['v1', 'constructor', false],
  ];
  for (const [apiVersion, kind, isPolicy] of rows) {
    const object = read('unsupported', { apiVersion, kind, metadata: { name: 'x' } });
    assert.deepEqual(
      [object.apiVersion, object.originalKind, object.isPolicy],
      [apiVersion, kind, isPolicy],
    );
  }
});

test('a kind that is not read need not have metadata, and a NetworkPolicy is one under any kind', () => {
  const kustomize = { apiVersion: 'kustomize.config.k8s.io/v1beta1', kind: 'Kustomization' };
  const other = parseObject(kustomize);
  assert.ok(other.ok && other.value.kind === 'unsupported');
  const metadata = { name: 'p', namespace: 'shop' };
  const policy = { apiVersion: 'networking.k8s.io/v1', metadata, spec: { podSelector: {} } };
  for (const kind of ['NetworkPolicies', 'NetworkPolcy', undefined]) {
    const meant = parseObject({ ...policy, kind });
    assert.ok(meant.ok && meant.value.kind === 'NetworkPolicy', kind);
    assert.match(meant.value.faults[0]?.message ?? '', /but must be NetworkPolicy/);
  }
  for (const apiVersion of ['networking/v1', 'network.k8s.io/v1', 'apps/v1']) {
    const meant = parseObject({ ...policy, kind: 'NetworkPolicy', apiVersion });
    assert.ok(meant.ok && meant.value.kind === 'NetworkPolicy', apiVersion);
    assert.match(meant.value.faults[0]?.message ?? '', /but must be networking.k8s.io\/v1/);
  }
  const ingress = parseObject({ ...policy, kind: 'Ingress', spec: { rules: [] } });
  assert.ok(ingress.ok && ingress.value.kind === 'unsupported');
});

test('errors name subject, field and fix', () => {
  const rows: [name: string, raw: unknown, subject: string, issue: RegExp][] = [
    ['no mapping', [], 'object', /^ is a list, but must be a mapping/],
    ['null', null, 'object', /^ is null/],
    [
      'a list whose items are none',
      { apiVersion: 'v1', kind: 'List', items: { a: pod } },
      'List',
      /^items is a mapping, but must be a list/,
    ],
    ['values', { networkPolicy: {} }, 'object', /^ is no object of Kubernetes: it has neither/],
    ['no kind', { apiVersion: 'v1', metadata: { name: 'x' } }, 'object x', /^kind is missing/],
    ['no metadata', { apiVersion: 'v1', kind: 'Pod' }, 'Pod default/', /^metadata is missing/],
    ['no name', { ...pod, metadata: {} }, 'Pod default/', /^metadata.name is missing/],
    [
      'label',
      { ...pod, metadata: { name: 'p', labels: { a: 1 } } },
      'Pod default/p',
      /^metadata.labels.a is the number 1/,
    ],
    [
      'labels',
      { ...pod, metadata: { name: 'p', labels: [] } },
      'Pod default/p',
      /^metadata.labels is a list/,
    ],
    [
      'address',
      { ...pod, status: { podIPs: [{ ip: '10.0.0' }] } },
      'Pod shop/web',
      /^status.podIPs\[0\].ip "10.0.0" is no IP/,
    ],
    [
      'address shape',
      { ...pod, status: { podIPs: ['10.0.0.1'] } },
      'Pod shop/web',
      /^status.podIPs\[0\] is the text/,
    ],
    [
      'flag',
      { ...pod, spec: { hostNetwork: 'yes' } },
      'Pod shop/web',
      /^spec.hostNetwork is the text "yes", but must be true/,
    ],
    ['spec', { ...pod, spec: null }, 'Pod shop/web', /^spec is null/],
    [
      'CIDR',
      { apiVersion: 'v1', kind: 'Node', metadata: { name: 'n' }, spec: { podCIDRs: ['x'] } },
      'Node n',
      /^spec.podCIDRs "x" is no prefix/,
    ],
    [
      'port',
      {
        apiVersion: 'v1',
        kind: 'Service',
        metadata: { name: 's' },
        spec: { ports: [{ port: 0 }] },
      },
      'Service default/s',
      /^spec.ports\[0\].port is the number 0, but must be a whole number of 1 to 65535/,
    ],
    [
      'address type',
      { apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice', metadata: { name: 's' } },
      'EndpointSlice default/s',
      /^addressType is missing/,
    ],
  ];
  for (const [name, raw, subject, issue] of rows) {
    const parsed = parseObject(raw);
    assert(!parsed.ok, name);
    assert.equal(parsed.error.subject, subject, name);
    const issues = parsed.error.issues.map(({ path, message }) => `${path} ${message}`);
    assert(
      issues.some((text) => issue.test(text)),
      `${issue} in ${JSON.stringify(issues)}`,
    );
  }
});

test('metadata that kubectl takes: labels are null, those of a policy are not read', () => {
  const empty = { labels: null, annotations: null, deletionTimestamp: null };
  const labelless = read('Pod', { ...pod, metadata: { name: 'p', ...empty } });
  assert.deepEqual([labelless.labels.size, labelless.isDeleting], [0, false]);
  for (const extra of [
    { labels: null },
    { labels: { version: 1 } },
    { uid: 1 },
    { annotations: 3 },
  ]) {
    const policy = read('CiliumNetworkPolicy', {
      apiVersion: 'cilium.io/v2',
      kind: 'CiliumNetworkPolicy',
      metadata: { namespace: 'shop', name: 'p', ...extra },
      status: { conditions: [] },
    });
    assert.deepEqual(policy.faults, [], JSON.stringify(extra));
  }
});

test('a policy stays one whatever is wrong beside its body, and each fault is named', () => {
  const spec = { endpointSelector: {}, egress: [{}] };
  const metadata = { namespace: 'shop', name: 'p' };
  const good = { apiVersion: 'cilium.io/v2', kind: 'CiliumNetworkPolicy', metadata, spec };
  const rows: [
    name: string,
    raw: Readonly<Record<string, unknown>>,
    faults: readonly RegExp[],
    ref: string,
  ][] = [
    ['nothing', good, [], 'shop/p placed'],
    [
      'null namespace',
      { ...good, metadata: { name: 'p', namespace: null } },
      [],
      'default/p placed',
    ],
    [
      'no name',
      { ...good, metadata: { namespace: 'shop' } },
      [/^metadata.name is missing/],
      'shop/ placed',
    ],
    [
      'name',
      { ...good, metadata: { ...metadata, name: 5 } },
      [/^metadata.name is the number 5/],
      'shop/ placed',
    ],
    [
      'namespace',
      { ...good, metadata: { name: 'p', namespace: 5 } },
      [/^metadata.namespace is the number 5/],
      '/p',
    ],
    ['metadata', { ...good, metadata: null }, [/^metadata is null/], '/'],
    [
      'misspelt namespace',
      { ...good, metadata: { name: 'p', namspace: 'shop' } },
      [/^metadata.namspace is no known field here/],
      '/p',
    ],
    [
      'stray section',
      { ...good, egress: [{}] },
      [/^egress stands beside spec.*indent it/],
      'shop/p placed',
    ],
    [
      'stray field',
      { ...good, data: null },
      [/^data is no known field here: expected apiV/],
      'shop/p placed',
    ],
    [
      'version',
      { ...good, apiVersion: 'cilium.io/v2alpha1' },
      [/^apiVersion is the text.*must be cilium.io\/v2/],
      'shop/p placed',
    ],
    ['letters', { ...good, kind: 'ciliumnetworkpolicy' }, [/^kind is the text/], 'shop/p placed'],
    [
      'mistyped kind',
      { ...good, kind: 'CiliumNetworkPolcy' },
      [/^kind is .*must be CiliumNetworkPolicy or/],
      'shop/p placed',
    ],
    [
      'no kind',
      { metadata, spec },
      [/^apiVersion is missing/, /^kind is missing/],
      'shop/p placed',
    ],
  ];
  for (const [name, raw, faults, ref] of rows) {
    const policy = read('CiliumNetworkPolicy', raw);
    const said = policy.faults.map(({ path, message }) => `${path} ${message}`);
    assert.equal(said.length, faults.length, `${name}: ${said.join('; ')}`);
    for (const [i, fault] of faults.entries()) assert.match(said[i] ?? '', fault, name);
    const placed = policy.isPlaced ? ' placed' : '';
    assert.equal(`${policy.namespace}/${policy.name}${placed}`, ref, name);
  }
});

test('named ports are those of containers, and of sidecars among those that are started before', () => {
  const ports = (name: string, containerPort: number): object[] => [{ name, containerPort }];
  const parsed = parseObject({
    ...{ apiVersion: 'v1', kind: 'Pod', metadata: { name: 'p' } },
    spec: {
      initContainers: [
        { ports: ports('http', 9000) },
        { ports: [...ports('metrics', 9100), ...ports('http', 9001)], restartPolicy: 'Always' },
      ],
      containers: [
        { ports: ports('http', 80) },
        { ports: [{ containerPort: 443 }, ...ports('http', 8080)] },
      ],
    },
  });
  assert.ok(parsed.ok && parsed.value.kind === 'Pod');
  assert.deepEqual([...(parsed.value.namedPorts ?? [])].sort(), [
    ['TCP/http', 80],
    ['TCP/metrics', 9100],
  ]);
});
