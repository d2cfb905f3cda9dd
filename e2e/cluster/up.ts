// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Brings a cluster up: what is up already stays, what a crash left is cleared away first. */

import { mkdirSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import { baseImages } from './base-images.ts';
import { clusterDnsObjects } from './cluster-dns.ts';
import { createControlPlaneNetns, startControlPlane } from './control-plane.ts';
import { down } from './down.ts';
import { applyObjects, kubectl, writeWrappers } from './kubectl.ts';
import {
  type ClusterConfig,
  flannelBackend,
  ipv6,
  type Layout,
  nodeIndexes,
  nodeName,
  podCidr,
} from './layout.ts';
import { importImage, startNode } from './node.ts';
import { writePki } from './pki.ts';
import { buildPrograms, type ProgramName } from './programs.ts';
import type { Progress } from './progress.ts';
import { readStatus } from './status.ts';
import { saveSysctls } from './sysctls.ts';

const readyTimeout = '--timeout=180s';

/** @throws Error when there is a cluster of the name with other options, or a step fails: nothing is left then but logs. */
export async function up(layout: Layout, config: ClusterConfig, progress: Progress): Promise<void> {
  const record = layout.readRecord();
  if (record?.phase === 'up' && (await readStatus(layout)).isReady) {
    if (isDeepStrictEqual(record.config, config)) {
      progress.say(`cluster ${config.name} is up already`);
      return;
    }
    throw new Error(
      `cluster ${config.name} is up with other options (${describe(record.config)}): ./run cluster down first`,
    );
  }
  if (record !== null) {
    progress.say('clearing away what an earlier cluster left');
    await down(layout);
  }
  await buildPrograms(programsOf(config), progress);
  const images = await baseImages(progress);
  try {
    await start(layout, config, images, progress);
  } catch (error) {
    const logs = await down(layout);
    const what = error instanceof Error ? error.message : String(error);
    throw new Error(`${what}\nlogs: ${logs}`, { cause: error });
  }
}

/** The cluster of this name that is up, or a new one as `config` says; gives what it is. */
export async function anyUp(
  layout: Layout,
  config: ClusterConfig,
  progress: Progress,
): Promise<ClusterConfig> {
  const record = layout.readRecord();
  const isThere = record?.phase === 'up' && (await readStatus(layout)).isReady;
  const chosen = isThere ? record.config : config;
  await up(layout, chosen, progress);
  return chosen;
}

/** Programs that a cluster of these options needs. */
export const programsOf = ({ cni }: ClusterConfig): readonly ProgramName[] => [
  ...(['etcd', 'kubernetes', 'agnhost', 'coredns'] as const),
  ...(flannelBackend(cni) === null ? [] : (['flannel', 'flannel-cni'] as const)),
];

export const describe = ({ nodes, cni, proxyMode, isDualStack }: ClusterConfig): string =>
  `${nodes} node${nodes === 1 ? '' : 's'}, ${cni}, kube-proxy with ${proxyMode}${isDualStack ? ', IPv4 and IPv6' : ''}`;

async function start(
  layout: Layout,
  config: ClusterConfig,
  images: readonly string[],
  progress: Progress,
): Promise<void> {
  progress.say(`cluster ${config.name}: ${describe(config)}`);
  mkdirSync(layout.directory, { recursive: true });
  layout.writeRecord({ config, phase: 'starting' });
  saveSysctls();
  await writePki(layout, config);
  writeWrappers(layout);
  await createControlPlaneNetns(layout, config);
  await startControlPlane(layout, config);
  progress.say('API server ready');
  const nodes = nodeIndexes(config);
  await applyObjects(
    layout,
    nodes.map((index) => nodeObject(config, index)),
  );
  await Promise.all(
    nodes.map(async (index) => {
      await startNode(layout, config, index);
      for (const image of images) await importImage(layout, index, image);
    }),
  );
  progress.say('nodes started, images imported');
  await kubectl(layout, ['wait', '--for=condition=Ready', 'node', '--all', readyTimeout]);
  progress.say('nodes Ready');
  await applyObjects(layout, clusterDnsObjects(config));
  const deployment = ['-n', 'kube-system', 'rollout', 'status', 'deployment/coredns', readyTimeout];
  await kubectl(layout, deployment);
  layout.writeRecord({ config, phase: 'up' });
  progress.say('CoreDNS Ready');
}

/** With the pod CIDR that its CNI list has; kubelet finds the object and fills in the rest. */
const nodeObject = ({ isDualStack }: ClusterConfig, index: number): unknown => ({
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { name: nodeName(index), labels: { 'kubernetes.io/hostname': nodeName(index) } },
  spec: {
    podCIDR: podCidr(index),
    podCIDRs: [podCidr(index), ...(isDualStack ? [ipv6.podCidr(index)] : [])],
  },
});
