// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A node: namespaces and cgroups of its own, in which containerd, kubelet and kube-proxy run. It can lose its power. */

import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run, tryRun } from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';
import { createCgroups, removeCgroups } from './cgroups.ts';
import { inControlPlane } from './control-plane.ts';
import { adminKubeconfig } from './kubectl.ts';
import {
  bedDirectory,
  type ClusterConfig,
  clusterCidr,
  controlPlaneAddress,
  flannelBackend,
  ipv6,
  type Layout,
  nodeAddress,
  nodeIndexes,
  nodeName,
  podCidr,
} from './layout.ts';
import { nodeVolumes, writeNodeFiles } from './node-files.ts';
import { daemonPid, killDaemon, startDaemon } from './processes.ts';
import { binary, programDirectory } from './programs.ts';

const script = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
const startTimeoutMs = 30_000;
const importTimeoutMs = 180_000;
const containerdSocket = '/run/containerd/containerd.sock';

/** Starts node `index`: with the disk it had, if it ran before. */
export async function startNode(
  layout: Layout,
  config: ClusterConfig,
  index: number,
): Promise<void> {
  const netns = layout.nodeNetns(index);
  const name = nodeName(index);
  if (!existsSync(layout.node(index))) writeNodeFiles(layout, config, index);
  createMountPoints();
  await createNetns(layout, config, index);
  createCgroups(netns);
  startDaemon(layout, {
    name,
    command: script('node-launch.sh'),
    args: [netns, netns, script('node-init.sh')],
    env: {
      NODE: name,
      NODE_ADDRESS: nodeAddresses(config, index).join(','),
      CLUSTER_CIDR: clusterCidr,
      ...(config.isDualStack ? { CLUSTER_CIDR6: ipv6.clusterCidr } : {}),
      DIRECTORY: layout.node(index),
      LOGS: layout.logs,
      BINARIES: programDirectory('kubernetes'),
      KUBECONFIG: join(layout.pki, `${name}.conf`),
      ...(flannelBackend(config.cni) === null ? {} : flannelEnvironment(layout)),
    },
  });
  const hasContainerd = async (): Promise<boolean> =>
    (await tryRun(...(await inNode(layout, index, ctr('version'))))).status === 0;
  await waitFor(hasContainerd, { what: `${name}'s containerd`, timeoutMs: startTimeoutMs });
}

const flannelEnvironment = (layout: Layout): NodeJS.ProcessEnv => ({
  FLANNELD: binary('flannel', 'flanneld'),
  FLANNEL_KUBECONFIG: adminKubeconfig(layout),
});

/** SIGKILL to everything that runs on it, and its network gone: what a power cut does. Its disk stays. */
export async function powerOffNode(layout: Layout, index: number): Promise<void> {
  await killDaemon(layout, nodeName(index));
  await removeCgroups(layout.nodeNetns(index));
  const netns = layout.nodeNetns(index);
  if (existsSync(join('/run/netns', netns))) await run('ip', ['netns', 'del', netns]);
}

/** Loads an image tar into a node's containerd, under the names that the tar says. */
export async function importImage(layout: Layout, index: number, file: string): Promise<void> {
  const command = ctr('-n', 'k8s.io', 'images', 'import', file);
  await run(...(await inNode(layout, index, command)), { timeoutMs: importTimeoutMs });
}

/** Another name for an image that the node has. */
export async function tagImage(
  layout: Layout,
  index: number,
  from: string,
  to: string,
): Promise<void> {
  const command = ctr('-n', 'k8s.io', 'images', 'tag', '--force', from, to);
  await run(...(await inNode(layout, index, command)), { timeoutMs: importTimeoutMs });
}

const ctr = (...args: readonly string[]): readonly string[] => [
  ...['ctr', '-a', containerdSocket],
  ...args,
];

/** A command in all namespaces of a node. @throws Error when the node does not run. */
export async function inNode(
  layout: Layout,
  index: number,
  [command = '', ...args]: readonly string[],
): Promise<[string, string[]]> {
  const pid = await nodeInitPid(layout, index);
  if (pid === null) throw new Error(`node ${nodeName(index)} does not run`);
  return ['nsenter', ['--target', `${pid}`, '--all', command, ...args]];
}

/** PID of the node's PID 1 in the machine's namespace. */
export async function nodeInitPid(layout: Layout, index: number): Promise<number | null> {
  const launcher = daemonPid(layout, nodeName(index));
  if (launcher === null) return null;
  const { stdout } = await tryRun('pgrep', ['--parent', `${launcher}`]);
  const pid = Number(stdout.trim());
  return Number.isInteger(pid) && pid > 0 ? pid : null;
}

async function createNetns(layout: Layout, config: ClusterConfig, index: number): Promise<void> {
  const name = layout.nodeNetns(index);
  await run('ip', ['netns', 'add', name]);
  const ip = (...args: readonly string[]): Promise<unknown> => run('ip', ['-n', name, ...args]);
  const peer = ['peer', 'name', `v${index}`, 'netns', layout.controlPlaneNetns];
  await ip('link', 'add', 'eth0', 'type', 'veth', ...peer);
  const control = ['-n', layout.controlPlaneNetns];
  await run('ip', [...control, 'link', 'set', `v${index}`, 'master', 'br0', 'up']);
  await ip('link', 'set', 'lo', 'up');
  await ip('addr', 'add', `${nodeAddress(index)}/24`, 'dev', 'eth0');
  await ip('link', 'set', 'eth0', 'up');
  await ip('route', 'add', 'default', 'via', controlPlaneAddress);
  const isRouted = flannelBackend(config.cni) === null;
  for (const other of nodeIndexes(config).filter((node) => isRouted && node !== index)) {
    await ip('route', 'add', podCidr(other), 'via', nodeAddress(other));
  }
  const route = [podCidr(index), 'via', nodeAddress(index)];
  await run(...inControlPlane(layout, 'ip', ['route', 'replace', ...route]));
  await run('nsenter', [`--net=/run/netns/${name}`, 'sysctl', '-qw', 'net.ipv4.ip_forward=1']);
  if (config.isDualStack) await addIpv6(layout, config, index);
}

async function addIpv6(layout: Layout, config: ClusterConfig, index: number): Promise<void> {
  const name = layout.nodeNetns(index);
  const ip = (...args: readonly string[]): Promise<unknown> =>
    run('ip', ['-n', name, '-6', ...args]);
  const address = ipv6.nodeAddress(index);
  await ip('addr', 'add', `${address}/64`, 'dev', 'eth0', 'nodad');
  await ip('route', 'add', 'default', 'via', ipv6.controlPlaneAddress);
  for (const other of nodeIndexes(config).filter((node) => node !== index)) {
    await ip('route', 'add', ipv6.podCidr(other), 'via', ipv6.nodeAddress(other));
  }
  const route = [ipv6.podCidr(index), 'via', address];
  await run(...inControlPlane(layout, 'ip', ['-6', 'route', 'replace', ...route]));
  const forward = ['sysctl', '-qw', 'net.ipv6.conf.all.forwarding=1'];
  await run('nsenter', [`--net=/run/netns/${name}`, ...forward]);
}

/** Its addresses, IPv4 first. */
export const nodeAddresses = ({ isDualStack }: ClusterConfig, index: number): readonly string[] => [
  nodeAddress(index),
  ...(isDualStack ? [ipv6.nodeAddress(index)] : []),
];

const mountPointsFile = join(bedDirectory, 'mount-points.json');

/** The machine needs the directories over which nodes mount theirs: those made here are removed at the end. */
function createMountPoints(): void {
  const made: string[] = existsSync(mountPointsFile)
    ? (JSON.parse(readFileSync(mountPointsFile, 'utf8')) as string[])
    : [];
  for (const path of Object.keys(nodeVolumes)) {
    const missing: string[] = [];
    for (let part = path; !existsSync(part); part = dirname(part)) missing.unshift(part);
    made.push(...missing);
    mkdirSync(path, { recursive: true });
  }
  writeFileSync(mountPointsFile, JSON.stringify(made));
}

/** Removes the mount points that nothing uses any more. */
export function removeMountPoints(): void {
  if (!existsSync(mountPointsFile)) return;
  const made = JSON.parse(readFileSync(mountPointsFile, 'utf8')) as string[];
  for (const path of made.toReversed()) {
    try {
      rmdirSync(path);
    } catch {
      // not empty, or gone
    }
  }
}
