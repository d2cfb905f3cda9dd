// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The cluster that policies are asked about: small, so that random policies meet it, and strange where Kubernetes allows it. */

export type Labels = Readonly<Record<string, string>>;
export type Raw = Readonly<Record<string, unknown>>;
export type Protocol = 'TCP' | 'UDP' | 'SCTP';

export interface NamedPort {
  readonly name: string;
  readonly number: number;
  readonly protocol: Protocol;
}

export interface PodFixture {
  readonly namespace: string;
  readonly labels: Labels;
  readonly ips: readonly string[];
  readonly isLocal: boolean;
  readonly ports: readonly NamedPort[];
}

/** Keys and values of labels that policies select by; `kubernetes.io/metadata.name` is set by the API server. */
export const namespaces: Readonly<Record<string, Labels>> = {
  a: { 'kubernetes.io/metadata.name': 'a', team: 'one', 'x.beta.kubernetes.io/zone': '1' },
  b: { 'kubernetes.io/metadata.name': 'b', team: 'two', empty: '' },
  c: { 'kubernetes.io/metadata.name': 'c' },
};

const http = (number: number): NamedPort => ({ name: 'http', number, protocol: 'TCP' });
const dns: NamedPort = { name: 'dns', number: 53, protocol: 'UDP' };
/** Another protocol's port of the same name. */
const udpHttp: NamedPort = { name: 'http', number: 80, protocol: 'UDP' };

const pod = (
  namespace: string,
  ips: readonly string[],
  labels: Labels,
  ports: readonly NamedPort[] = [],
): PodFixture => ({
  ...{ namespace, labels, ips, ports },
  isLocal: !ips.some((ip) => /^(10\.244\.1\.|fd00:244:0:1:)/.test(ip)),
});

export const pods: readonly PodFixture[] = [
  pod('a', ['10.244.0.2', 'fd00:244::2'], { app: 'x', 'pod-template-hash': '1' }, [http(80)]),
  pod('a', ['10.244.0.3', 'fd00:244::3'], { app: 'y', tier: 'web' }, [http(8080), dns]),
  pod('b', ['10.244.0.4'], { app: 'x', empty: '' }, [http(80), udpHttp]),
  pod('c', ['fd00:244::5'], {}),
  pod('a', ['10.244.1.2', 'fd00:244:0:1::2'], { app: 'y', 'pod-template-hash': '2' }, [http(81)]),
  pod('b', ['10.244.1.3', 'fd00:244:0:1::3'], { app: 'x', tier: 'db' }, [dns]),
  pod('c', ['10.244.1.4'], { tier: 'web', 'example.com/role': 'client' }),
];

/** Addresses that are no pod's: the other node, an unused one of a pod CIDR, the world. */
export const others: readonly string[] = [
  ...['192.168.0.2', 'fd00:168::2'],
  ...['10.244.1.77', 'fd00:244:0:1::77'],
  ...['198.51.100.7', '198.51.100.200', '203.0.113.9', '2001:db8::7', '2001:db8:1::9'],
];

const podObject = ({ namespace, labels, ips, isLocal, ports }: PodFixture, index: number): Raw => ({
  ...{ apiVersion: 'v1', kind: 'Pod' },
  metadata: { name: `p${index}`, namespace, uid: `uid-${index}`, labels },
  spec: {
    nodeName: isLocal ? 'one' : 'two',
    containers: [
      {
        ports: ports.map(({ name, number, protocol }) => ({
          ...{ name, containerPort: number, protocol },
        })),
      },
    ],
  },
  status: { phase: 'Running', podIPs: ips.map((ip) => ({ ip })) },
});

/** Pods that no policy may select or name: one has the node's address, the other one is over. */
const strangers: readonly Raw[] = [
  {
    ...{ apiVersion: 'v1', kind: 'Pod' },
    metadata: { name: 'of-the-host', namespace: 'a', labels: { app: 'x' } },
    spec: { nodeName: 'two', hostNetwork: true, containers: [] },
    status: { phase: 'Running', podIPs: [{ ip: '192.168.0.2' }] },
  },
  {
    ...{ apiVersion: 'v1', kind: 'Pod' },
    metadata: { name: 'finished', namespace: 'a', labels: { app: 'x' } },
    spec: { nodeName: 'two', containers: [] },
    status: { phase: 'Succeeded', podIPs: [{ ip: '10.244.1.77' }] },
  },
];

const nodeObject = (name: string, ips: readonly string[], podCIDRs: readonly string[]): Raw => ({
  ...{ apiVersion: 'v1', kind: 'Node', metadata: { name } },
  spec: { podCIDRs },
  status: { addresses: ips.map((address) => ({ type: 'InternalIP', address })) },
});

/** All but the policies. The node whose pods are judged is "one". */
export const objects: readonly Raw[] = [
  ...Object.entries(namespaces).map(([name, labels]) => ({
    ...{ apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels } },
  })),
  nodeObject('one', ['192.168.0.1', 'fd00:168::1'], ['10.244.0.0/24', 'fd00:244::/64']),
  nodeObject('two', ['192.168.0.2', 'fd00:168::2'], ['10.244.1.0/24', 'fd00:244:0:1::/64']),
  ...pods.map(podObject),
  ...strangers,
];
