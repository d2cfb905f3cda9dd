// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** etcd, API server, controller manager and scheduler, in a network namespace whose bridge is the nodes' network. */

import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run } from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';
import { tryKubectl } from './kubectl.ts';
import {
  type ClusterConfig,
  clusterCidr,
  controlPlaneAddress,
  ipv6,
  type Layout,
  serviceCidr,
  worldCidr,
  worldDns,
} from './layout.ts';
import { startDaemon } from './processes.ts';
import { binary } from './programs.ts';

export const controlPlanePrograms = [
  'etcd',
  'kube-apiserver',
  'kube-controller-manager',
  'kube-scheduler',
] as const;

const readyTimeoutMs = 180_000;
const nodeMonitorGrace = '20s';

/** The bridge has the addresses that nodes see as the outside; its namespace forwards between nodes. */
export async function createControlPlaneNetns(
  layout: Layout,
  { isDualStack }: ClusterConfig,
): Promise<void> {
  const name = layout.controlPlaneNetns;
  await run('ip', ['netns', 'add', name]);
  const ip = (...args: readonly string[]): Promise<unknown> => run('ip', ['-n', name, ...args]);
  await ip('link', 'set', 'lo', 'up');
  // of its own: else it is that of a node's port, and another one when that node loses its power
  await ip('link', 'add', 'br0', 'address', '02:00:00:00:00:01', 'type', 'bridge');
  await ip('addr', 'add', `${controlPlaneAddress}/24`, 'dev', 'br0');
  await ip('link', 'set', 'br0', 'up');
  // at lo, every address of the prefix is local
  for (const prefix of [worldCidr, `${worldDns}/32`]) await ip('addr', 'add', prefix, 'dev', 'lo');
  await run(...inControlPlane(layout, 'sysctl', ['-qw', 'net.ipv4.ip_forward=1']));
  if (!isDualStack) return;
  await ip('addr', 'add', `${ipv6.controlPlaneAddress}/64`, 'dev', 'br0', 'nodad');
  await ip('-6', 'route', 'add', 'local', ipv6.worldCidr, 'dev', 'lo');
  // of the others a process can be reached at each, and send from none
  for (const address of [ipv6.worldApiAddress, ipv6.worldWwwAddress]) {
    await ip('addr', 'add', `${address}/128`, 'dev', 'lo', 'nodad');
  }
  await run(...inControlPlane(layout, 'sysctl', ['-qw', 'net.ipv6.conf.all.forwarding=1']));
}

/** A command in the namespace. Not `ip netns exec`, which hides cgroups and bpffs behind a /sys of its own. */
export function inControlPlane(
  layout: Layout,
  command: string,
  args: readonly string[],
): [string, string[]] {
  return ['nsenter', [`--net=/run/netns/${layout.controlPlaneNetns}`, command, ...args]];
}

export function startControlPlaneProgram(
  layout: Layout,
  config: ClusterConfig,
  name: (typeof controlPlanePrograms)[number],
): void {
  const program = name === 'etcd' ? binary('etcd') : binary('kubernetes', name);
  const [command, args] = inControlPlane(layout, program, argumentsOf[name](layout, config));
  startDaemon(layout, { name, command, args });
}

/** DNS and web servers outside of the cluster. */
function startWorld(layout: Layout, { isDualStack }: ClusterConfig): void {
  const script = fileURLToPath(new URL('world.ts', import.meta.url));
  const args = [...process.execArgv, script, ...(isDualStack ? ['--dual-stack'] : [])];
  const [command, all] = inControlPlane(layout, process.execPath, args);
  startDaemon(layout, { name: 'world', command, args: all });
}

export async function startControlPlane(layout: Layout, config: ClusterConfig): Promise<void> {
  startWorld(layout, config);
  startControlPlaneProgram(layout, config, 'etcd');
  startControlPlaneProgram(layout, config, 'kube-apiserver');
  await waitForApiServer(layout);
  startControlPlaneProgram(layout, config, 'kube-controller-manager');
  startControlPlaneProgram(layout, config, 'kube-scheduler');
}

export async function waitForApiServer(layout: Layout): Promise<void> {
  const isReady = async (): Promise<boolean> =>
    (await tryKubectl(layout, ['get', '--raw', '/readyz'])).stdout === 'ok';
  await waitFor(isReady, { what: 'the API server', timeoutMs: readyTimeoutMs });
}

const flags = (values: Readonly<Record<string, string>>): string[] =>
  Object.entries(values).map(([name, value]) => `--${name}=${value}`);

const clientUrl = 'http://127.0.0.1:2379';
const peerUrl = 'http://127.0.0.1:2380';

const argumentsOf: Readonly<
  Record<(typeof controlPlanePrograms)[number], (layout: Layout, config: ClusterConfig) => string[]>
> = {
  etcd: ({ directory }) => [
    ...flags({
      name: 'tandem',
      'data-dir': join(directory, 'etcd'),
      'listen-client-urls': clientUrl,
      'advertise-client-urls': clientUrl,
      'listen-peer-urls': peerUrl,
      'initial-advertise-peer-urls': peerUrl,
      'initial-cluster': `tandem=${peerUrl}`,
    }),
    '--unsafe-no-fsync',
  ],
  'kube-apiserver': ({ pki }, { isDualStack }) =>
    flags({
      'etcd-servers': clientUrl,
      'advertise-address': controlPlaneAddress,
      'bind-address': '0.0.0.0',
      'secure-port': '6443',
      'tls-cert-file': join(pki, 'apiserver.crt'),
      'tls-private-key-file': join(pki, 'apiserver.key'),
      'client-ca-file': join(pki, 'ca.crt'),
      'authorization-mode': 'Node,RBAC',
      'enable-admission-plugins': 'NodeRestriction',
      'service-account-issuer': 'https://kubernetes.default.svc.cluster.local',
      'service-account-signing-key-file': join(pki, 'sa.key'),
      'service-account-key-file': join(pki, 'sa.pub'),
      'service-cluster-ip-range': isDualStack ? `${serviceCidr},${ipv6.serviceCidr}` : serviceCidr,
      'kubelet-client-certificate': join(pki, 'apiserver-kubelet-client.crt'),
      'kubelet-client-key': join(pki, 'apiserver-kubelet-client.key'),
      'kubelet-preferred-address-types': 'InternalIP',
      'requestheader-client-ca-file': join(pki, 'front-proxy-ca.crt'),
      'requestheader-allowed-names': 'front-proxy-client',
      'requestheader-extra-headers-prefix': 'X-Remote-Extra-',
      'requestheader-group-headers': 'X-Remote-Group',
      'requestheader-username-headers': 'X-Remote-User',
      'proxy-client-cert-file': join(pki, 'front-proxy-client.crt'),
      'proxy-client-key-file': join(pki, 'front-proxy-client.key'),
      'enable-aggregator-routing': 'true',
      'allow-privileged': 'true',
      'endpoint-reconciler-type': 'lease',
    }),
  'kube-controller-manager': ({ directory, pki }, { isDualStack }) =>
    flags({
      ...kubeconfigs(join(pki, 'controller-manager.conf')),
      'root-ca-file': join(pki, 'ca.crt'),
      'service-account-private-key-file': join(pki, 'sa.key'),
      'cluster-signing-cert-file': join(pki, 'ca.crt'),
      'cluster-signing-key-file': join(pki, 'ca.key'),
      'use-service-account-credentials': 'true',
      'cluster-cidr': isDualStack ? `${clusterCidr},${ipv6.clusterCidr}` : clusterCidr,
      // nodes are made with their CIDR: node 2 has the second
      'allocate-node-cidrs': 'false',
      'node-monitor-grace-period': nodeMonitorGrace,
      // it makes the directory, by default below /usr
      'flex-volume-plugin-dir': join(directory, 'volume-plugins'),
    }),
  'kube-scheduler': ({ pki }) => flags(kubeconfigs(join(pki, 'scheduler.conf'))),
};

function kubeconfigs(file: string): Readonly<Record<string, string>> {
  return {
    kubeconfig: file,
    'authentication-kubeconfig': file,
    'authorization-kubeconfig': file,
    'leader-elect': 'false',
  };
}
