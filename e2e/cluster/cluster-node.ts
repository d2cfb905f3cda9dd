// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A node: network, mount, PID, UTS, IPC and cgroup namespaces of its own, in which `node-init.sh` starts containerd, kubelet and
 * kube-proxy. Its process 1 ends all of it.
 */

import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { programPath } from './go-programs.ts';
import { pki } from './pki.ts';
import { controlPlaneNamespace, ipIn, isAlive, runIn, startDetached, until } from './processes.ts';
import {
  type ClusterSpec,
  controlPlaneAddress,
  dnsServiceAddress,
  imageDirectory,
  nodeAddress,
  nodeName,
  nodePodCidr,
  podCidr,
  prefix,
  stateDirectory,
  worldDns,
} from './settings.ts';

export const nodeNamespace = (index: number): string => `${prefix}-${nodeName(index)}`;
export const nodeDirectory = (index: number): string => join(stateDirectory, nodeName(index));
const cgroupRoot = '/sys/fs/cgroup';

/** Gives the pid of its process 1. */
export async function startNode(index: number, spec: ClusterSpec): Promise<number> {
  makeNodeNetwork(index, spec.nodes);
  makeCgroups(index);
  writeConfiguration(index, spec);
  const script = fileURLToPath(new URL('node-init.sh', import.meta.url));
  const enterCgroups = `for each in ${cgroupRoot}/*/${nodeNamespace(index)}; do echo 0 >"$each/cgroup.procs"; done; exec "$@"`;
  const launcher = startDetached(
    `${nodeName(index)}-init`,
    nodeNamespace(index),
    [
      ...['bash', '-c', enterCgroups, 'node'],
      ...['unshare', '--mount', '--uts', '--ipc', '--cgroup', '--pid', '--fork', '--kill-child'],
      ...['bash', script, nodeName(index), nodeDirectory(index), imageDirectory],
    ],
    {
      KUBELET: programPath('kubelet'),
      KUBE_PROXY: programPath('kube-proxy'),
      KUBECONFIG_PROXY: pki('proxy.conf'),
    },
  );
  let pid = 0;
  const isStarted = await until(() => {
    const children = readFileSync(`/proc/${launcher}/task/${launcher}/children`, 'utf8').trim();
    pid = Number(children.split(' ')[0]);
    return pid > 0;
  }, 5000);
  if (!isStarted) throw new Error(`${nodeName(index)} did not start: see its log`);
  return pid;
}

/** Ends all processes of the node at once, as a power failure does. */
export async function stopNode(index: number, pid: number): Promise<void> {
  if (isAlive(pid)) {
    process.kill(pid, 'SIGKILL');
    await until(() => !isAlive(pid), 5000);
  }
  removeNetns(nodeNamespace(index));
  await until(() => removeCgroups(nodeNamespace(index)), 10_000);
}

/** Runs a command in all namespaces of a node. */
export function runOnNode(pid: number, ...command: readonly string[]): string {
  return execFileSync('nsenter', ['-t', String(pid), '-a', ...command], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

export function removeNetns(name: string): void {
  if (existsSync(`/run/netns/${name}`)) execFileSync('ip', ['netns', 'del', name]);
}

function makeNodeNetwork(index: number, nodes: number): void {
  const namespace = nodeNamespace(index);
  execFileSync('ip', ['netns', 'add', namespace]);
  const port = `v${index}`;
  execFileSync('ip', [
    ...['link', 'add', 'eth0', 'netns', namespace, 'type', 'veth'],
    ...['peer', 'name', port, 'netns', controlPlaneNamespace],
  ]);
  ipIn(
    controlPlaneNamespace,
    `link set ${port} master br0`,
    `link set ${port} up`,
    `route add ${nodePodCidr(index)} via ${nodeAddress(index)} dev br0 onlink`,
  );
  const others = Array.from({ length: nodes }, (_, i) => i + 1).filter((each) => each !== index);
  ipIn(
    namespace,
    'link set lo up',
    `addr add ${nodeAddress(index)}/24 dev eth0`,
    'link set eth0 up',
    `route add default via ${controlPlaneAddress}`,
    ...others.map((each) => `route add ${nodePodCidr(each)} via ${nodeAddress(each)}`),
  );
  runIn(namespace, 'sysctl', '-qw', 'net.ipv4.ip_forward=1');
}

/** One below the root of each hierarchy of version 1, and of the unified one. */
function makeCgroups(index: number): void {
  for (const hierarchy of hierarchies()) {
    const directory = join(hierarchy, nodeNamespace(index));
    mkdirSync(directory, { recursive: true });
    // A cpuset without CPUs takes no process.
    for (const file of ['cpuset.mems', 'cpuset.cpus']) {
      if (!existsSync(join(directory, file))) continue;
      writeFileSync(join(directory, file), readFileSync(join(hierarchy, file)));
    }
  }
}

/** Whether none is left. */
function removeCgroups(name: string): boolean {
  for (const hierarchy of hierarchies()) removeTree(join(hierarchy, name));
  return hierarchies().every((hierarchy) => !existsSync(join(hierarchy, name)));
}

function removeTree(directory: string): void {
  if (!existsSync(directory)) return;
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    if (entry.isDirectory()) removeTree(join(directory, entry.name));
  }
  try {
    rmdirSync(directory);
  } catch {
    // Its last process is being reaped: tried again.
  }
}

function hierarchies(): readonly string[] {
  return readdirSync(cgroupRoot, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => join(cgroupRoot, name))
    .filter((directory) => existsSync(join(directory, 'cgroup.procs')));
}

/** Files that `node-init.sh` and the programs of the node read. */
function writeConfiguration(index: number, { cni, proxyMode }: ClusterSpec): void {
  const directory = nodeDirectory(index);
  mkdirSync(join(directory, 'etc/cni'), { recursive: true });
  const write = (path: string, content: object | string): void =>
    writeFileSync(
      join(directory, path),
      typeof content === 'string' ? content : JSON.stringify(content, null, 2),
    );
  write('etc/resolv.conf', `nameserver ${worldDns}\n`);
  const ipam = {
    type: 'host-local',
    ranges: [[{ subnet: nodePodCidr(index) }]],
    routes: [{ dst: '0.0.0.0/0' }],
  };
  const plugin =
    cni === 'ptp'
      ? { type: 'ptp', ipMasq: false, ipam }
      : { type: 'bridge', bridge: 'cni0', isGateway: true, hairpinMode: true, ipMasq: false, ipam };
  write('etc/cni/10-net.conflist', {
    ...{ cniVersion: '1.0.0', name: 'net' },
    plugins: [plugin, { type: 'portmap', capabilities: { portMappings: true } }],
  });
  write('etc/pod-cidr', podCidr);
  write('etc/kubelet.yaml', {
    ...{ apiVersion: 'kubelet.config.k8s.io/v1beta1', kind: 'KubeletConfiguration' },
    ...{ cgroupDriver: 'cgroupfs', failCgroupV1: false, failSwapOn: false },
    authentication: {
      ...{ anonymous: { enabled: false }, webhook: { enabled: true } },
      x509: { clientCAFile: pki('ca.crt') },
    },
    authorization: { mode: 'Webhook' },
    tlsCertFile: pki(`${nodeName(index)}.crt`),
    tlsPrivateKeyFile: pki(`${nodeName(index)}.key`),
    ...{ clusterDNS: [dnsServiceAddress], clusterDomain: 'cluster.local' },
    containerRuntimeEndpoint: 'unix:///run/containerd/containerd.sock',
    resolvConf: join(directory, 'etc/resolv.conf'),
    podCIDR: nodePodCidr(index),
    ...{ nodeStatusUpdateFrequency: '4s', maxPods: 260, serializeImagePulls: false },
    evictionHard: {
      ...{ 'memory.available': '100Mi', 'nodefs.available': '1%', 'imagefs.available': '1%' },
    },
    ...{ imageGCHighThresholdPercent: 100, imageGCLowThresholdPercent: 99 },
  });
  write(
    'etc/kubelet-arguments',
    [
      `--config=${join(directory, 'etc/kubelet.yaml')}`,
      `--kubeconfig=${pki(`${nodeName(index)}.conf`)}`,
      `--hostname-override=${nodeName(index)}`,
      `--node-ip=${nodeAddress(index)}`,
      '--root-dir=/var/lib/kubelet',
    ].join('\n'),
  );
  write('etc/proxy.yaml', {
    ...{ apiVersion: 'kubeproxy.config.k8s.io/v1alpha1', kind: 'KubeProxyConfiguration' },
    clientConnection: { kubeconfig: pki('proxy.conf') },
    ...{ clusterCIDR: podCidr, hostnameOverride: nodeName(index), mode: proxyMode },
    // A network namespace cannot set what these ask for.
    conntrack: { maxPerCore: 0, min: 0 },
  });
  write('etc/containerd.toml', containerdConfiguration);
}

/** Of containerd 1.6 and 1.7. */
const containerdConfiguration = `version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.k8s.io/pause:3.10"
  disable_apparmor = true
  # Without CAP_SYS_RESOURCE a lower score cannot be set.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
`;
