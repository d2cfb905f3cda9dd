// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Status of a cluster: which programs run, and whether pods can start and resolve names on it. */

import { controlPlanePrograms } from './control-plane.ts';
import { tryKubectl } from './kubectl.ts';
import { type ClusterConfig, type Layout, nodeAddress, nodeIndexes, nodeName } from './layout.ts';
import { daemonPid } from './processes.ts';

const requestTimeout = '--request-timeout=5s';

export interface NodeStatus {
  readonly name: string;
  readonly address: string;
  readonly isRunning: boolean;
  readonly isReady: boolean;
}

export interface ClusterStatus {
  /** Null: there is no cluster of the name. */
  readonly config: ClusterConfig | null;
  /** Whether its last start came to an end. */
  readonly isStarted: boolean;
  /** Program to its process: null when it does not run. */
  readonly controlPlane: Readonly<Record<string, number | null>>;
  readonly nodes: readonly NodeStatus[];
  readonly isDnsReady: boolean;
  /** All of the above. */
  readonly isReady: boolean;
}

export async function readStatus(layout: Layout): Promise<ClusterStatus> {
  const record = layout.readRecord();
  if (record === null) {
    const nothing = { isStarted: false, isDnsReady: false, isReady: false };
    return { config: null, controlPlane: {}, nodes: [], ...nothing };
  }
  const controlPlane = Object.fromEntries(
    controlPlanePrograms.map((name) => [name, daemonPid(layout, name)]),
  );
  const isApiServed = controlPlane['kube-apiserver'] !== null && controlPlane['etcd'] !== null;
  const ready = isApiServed ? await readyNodes(layout) : new Set<string>();
  const nodes = nodeIndexes(record.config).map((index) => ({
    name: nodeName(index),
    address: nodeAddress(index),
    isRunning: daemonPid(layout, nodeName(index)) !== null,
    isReady: ready.has(nodeName(index)),
  }));
  const isDnsReady = isApiServed && (await hasDns(layout));
  const isStarted = record.phase === 'up';
  const isReady =
    isStarted &&
    isDnsReady &&
    Object.values(controlPlane).every((pid) => pid !== null) &&
    nodes.every((node) => node.isRunning && node.isReady);
  return { config: record.config, isStarted, controlPlane, nodes, isDnsReady, isReady };
}

async function readyNodes(layout: Layout): Promise<ReadonlySet<string>> {
  const conditions = '{.status.conditions[?(@.type=="Ready")].status}';
  const template = `{range .items[*]}{.metadata.name} ${conditions}{"\\n"}{end}`;
  const args = ['get', 'nodes', '-o', `jsonpath=${template}`, requestTimeout];
  const { stdout } = await tryKubectl(layout, args);
  const rows = stdout.split('\n').map((row) => row.split(' '));
  return new Set(rows.filter(([, status]) => status === 'True').map(([name = '']) => name));
}

async function hasDns(layout: Layout): Promise<boolean> {
  const object = ['-n', 'kube-system', 'get', 'deployment', 'coredns'];
  const template = ['-o', 'jsonpath={.status.readyReplicas}', requestTimeout];
  return Number((await tryKubectl(layout, [...object, ...template])).stdout) > 0;
}

export function statusText({ config, controlPlane, nodes, ...status }: ClusterStatus): string {
  if (config === null) return 'no cluster: ./run cluster up makes one';
  const state = (pid: number | null): string => (pid === null ? 'not running' : `pid ${pid}`);
  const rows: [string, string][] = [
    ['cluster', `${config.name}, CNI ${config.cni}, kube-proxy with ${config.proxyMode}`],
    ...Object.entries(controlPlane).map(([name, pid]): [string, string] => [name, state(pid)]),
    ...nodes.map((node): [string, string] => [
      `node ${node.name}`,
      `${node.address}, ${node.isRunning ? (node.isReady ? 'Ready' : 'NotReady') : 'not running'}`,
    ]),
    ['CoreDNS', status.isDnsReady ? 'Ready' : 'NotReady'],
    ['status', status.isReady ? 'READY' : status.isStarted ? 'NOT READY' : 'NOT STARTED'],
  ];
  const width = Math.max(...rows.map(([name]) => name.length)) + 2;
  return rows.map(([name, text]) => name.padEnd(width) + text).join('\n');
}
