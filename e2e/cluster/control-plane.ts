// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** etcd, API server, controller manager and scheduler, in a network namespace that is also the world beyond the nodes. */

import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { programPath } from './go-programs.ts';
import { kubectl } from './kubectl.ts';
import { pki } from './pki.ts';
import { controlPlaneNamespace, ipIn, runIn, startDetached, until } from './processes.ts';
import {
  controlPlaneAddress,
  podCidr,
  serviceCidr,
  stateDirectory,
  worldAddresses,
} from './settings.ts';

const readyTimeoutMs = 120_000;

export function makeControlPlaneNetwork(): void {
  execFileSync('ip', ['netns', 'add', controlPlaneNamespace]);
  ipIn(
    controlPlaneNamespace,
    'link set lo up',
    'link add br0 type bridge',
    `addr add ${controlPlaneAddress}/24 dev br0`,
    'link set br0 up',
    ...worldAddresses.map((address) => `addr add ${address}/32 dev lo`),
  );
  runIn(controlPlaneNamespace, 'sysctl', '-qw', 'net.ipv4.ip_forward=1');
}

/** DNS and web servers outside of the cluster; gives the pid. */
export function startWorld(): number {
  const script = fileURLToPath(new URL('world.ts', import.meta.url));
  return startDetached('world', controlPlaneNamespace, [process.execPath, script]);
}

/** Gives the pids by name, when the API server answers. */
export async function startControlPlane(): Promise<Readonly<Record<string, number>>> {
  const start = (name: string, args: readonly string[]): number =>
    startDetached(name, controlPlaneNamespace, [programPath(name), ...args]);
  const pids: Record<string, number> = {};
  pids['etcd'] = start('etcd', etcdArguments());
  pids['kube-apiserver'] = start('kube-apiserver', apiServerArguments());
  const isReady = await until(() => kubectl('get', '--raw', '/readyz') === 'ok', readyTimeoutMs);
  if (!isReady) throw new Error('the API server is not ready: see its log');
  const kubeconfigs = (file: string): readonly string[] =>
    ['kubeconfig', 'authentication-kubeconfig', 'authorization-kubeconfig'].map(
      (flag) => `--${flag}=${pki(`${file}.conf`)}`,
    );
  pids['kube-controller-manager'] = start('kube-controller-manager', [
    ...kubeconfigs('controller-manager'),
    `--root-ca-file=${pki('ca.crt')}`,
    `--service-account-private-key-file=${pki('sa.key')}`,
    `--cluster-signing-cert-file=${pki('ca.crt')}`,
    `--cluster-signing-key-file=${pki('ca.key')}`,
    '--use-service-account-credentials',
    '--leader-elect=false',
    '--node-monitor-grace-period=20s',
    '--allocate-node-cidrs',
    `--cluster-cidr=${podCidr}`,
    // Nodes say their own; the allocation follows what is there.
    '--controllers=*,-node-ipam-controller',
  ]);
  pids['kube-scheduler'] = start('kube-scheduler', [
    ...kubeconfigs('scheduler'),
    '--leader-elect=false',
  ]);
  return pids;
}

function etcdArguments(): readonly string[] {
  const [client, peer] = ['http://127.0.0.1:2379', 'http://127.0.0.1:2380'];
  return [
    ...['--name=etcd', `--data-dir=${join(stateDirectory, 'etcd')}`, '--unsafe-no-fsync'],
    ...[`--listen-client-urls=${client}`, `--advertise-client-urls=${client}`],
    ...[`--listen-peer-urls=${peer}`, `--initial-advertise-peer-urls=${peer}`],
    `--initial-cluster=etcd=${peer}`,
  ];
}

function apiServerArguments(): readonly string[] {
  return [
    '--etcd-servers=http://127.0.0.1:2379',
    ...[
      `--advertise-address=${controlPlaneAddress}`,
      '--bind-address=0.0.0.0',
      '--secure-port=6443',
    ],
    `--tls-cert-file=${pki('apiserver.crt')}`,
    `--tls-private-key-file=${pki('apiserver.key')}`,
    `--client-ca-file=${pki('ca.crt')}`,
    ...['--authorization-mode=Node,RBAC', '--enable-admission-plugins=NodeRestriction'],
    '--service-account-issuer=https://kubernetes.default.svc.cluster.local',
    `--service-account-signing-key-file=${pki('sa.key')}`,
    `--service-account-key-file=${pki('sa.pub')}`,
    `--service-cluster-ip-range=${serviceCidr}`,
    `--kubelet-client-certificate=${pki('kubelet-client.crt')}`,
    `--kubelet-client-key=${pki('kubelet-client.key')}`,
    '--kubelet-preferred-address-types=InternalIP',
    `--requestheader-client-ca-file=${pki('front-proxy-ca.crt')}`,
    '--requestheader-allowed-names=front-proxy-client',
    '--requestheader-extra-headers-prefix=X-Remote-Extra-',
    '--requestheader-group-headers=X-Remote-Group',
    '--requestheader-username-headers=X-Remote-User',
    `--proxy-client-cert-file=${pki('front-proxy.crt')}`,
    `--proxy-client-key-file=${pki('front-proxy.key')}`,
    ...['--enable-aggregator-routing', '--allow-privileged', '--endpoint-reconciler-type=lease'],
  ];
}
