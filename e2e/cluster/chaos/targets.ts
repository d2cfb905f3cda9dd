// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Targets of faults: processes and pods of a cluster, and signals to them. */

import { tryRun } from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';
import { inControlPlane } from '../control-plane.ts';
import { kubectl } from '../kubectl.ts';
import { nodeName } from '../layout.ts';
import { inNode } from '../node.ts';
import { cachePod } from '../trials/local-cache.ts';
import { podProcess } from '../trials/pod-process.ts';
import { resolves } from './settle.ts';
import type { ClusterStage } from './stage.ts';

const backTimeoutMs = 120_000;

export type Signal = 'SIGKILL' | 'SIGSTOP' | 'SIGCONT';
const kubelet = '/kubelet --config=';

/** To the main process of a program of the node. @throws Error when it does not run */
export async function signalProgram(
  { layout }: ClusterStage,
  node: number,
  program: 'agent' | 'dns-proxy' | 'kubelet',
  signal: Signal,
): Promise<void> {
  const pattern = program === 'kubelet' ? kubelet : `^/bin/node .*/dist/${program}\\.js`;
  const shell = `kill -${signal.slice(3)} $(pgrep --oldest --full '${pattern}')`;
  const { status, stderr } = await tryRun(...(await inNode(layout, node, ['sh', '-c', shell])));
  if (status !== 0) throw new Error(`${signal} to ${program} of ${nodeName(node)}: ${stderr}`);
}

export interface DnsPod {
  readonly name: string;
  readonly node: number;
}

/** The pod of CoreDNS. @throws Error when it has none that is ready */
export async function corednsPod({ layout, nodes }: ClusterStage): Promise<DnsPod> {
  const get = ['-n', 'kube-system', 'get', 'pods', '-l', 'k8s-app=kube-dns', '-o'];
  const text = await kubectl(layout, [
    ...get,
    'jsonpath={.items[0].metadata.name} {.items[0].spec.nodeName}',
  ]);
  const [name = '', where] = text.split(' ');
  const node = nodes.find((index) => nodeName(index) === where);
  if (node === undefined) throw new Error('there is no pod of CoreDNS');
  return { name, node };
}

/** The node's cache. @throws Error when it has none that is ready */
export async function cachePodOf(stage: ClusterStage, node: number): Promise<DnsPod> {
  const name = await cachePod(stage.trial, node);
  if (name === '') throw new Error(`there is no cache on ${nodeName(node)}`);
  return { name, node };
}

/** To the process of a pod. */
export function signalPod({ layout }: ClusterStage, { name }: DnsPod, signal: Signal): void {
  const pid = podProcess(layout, name);
  if (pid === null) throw new Error(`${name} has no process`);
  process.kill(pid, signal);
}

/** Lets it go on, if it is still there. */
export function resumePod(stage: ClusterStage, pod: DnsPod): void {
  if (podProcess(stage.layout, pod.name) !== null) signalPod(stage, pod, 'SIGCONT');
}

/** Nothing comes to the pod or leaves it for as long as `work` lasts. */
export async function withPodCut(
  { layout }: ClusterStage,
  { name }: DnsPod,
  work: () => Promise<void>,
): Promise<void> {
  const pid = podProcess(layout, name);
  if (pid === null) throw new Error(`${name} has no process`);
  const iptables = (action: string, chain: string): ReturnType<typeof tryRun> =>
    tryRun('nsenter', [
      `--net=/proc/${pid}/ns/net`,
      ...['iptables', '-w', action, chain, '!', '-i', 'lo', '-j', 'DROP'].filter(
        (word) => chain === 'INPUT' || !['!', '-i', 'lo'].includes(word),
      ),
    ]);
  const chains = ['INPUT', 'OUTPUT'] as const;
  for (const chain of chains) await iptables('-I', chain);
  try {
    await work();
  } finally {
    for (const chain of chains) await iptables('-D', chain);
  }
}

/** Waits until programs of each of these nodes have names answered that were never asked for, past any policy. */
export async function untilResolved(stage: ClusterStage, nodes: readonly number[]): Promise<void> {
  for (const index of nodes) {
    const enter = (command: string, args: readonly string[] = []): [string, string[]] => [
      'nsenter',
      [`--net=/run/netns/${stage.layout.nodeNetns(index)}`, command, ...args],
    ];
    await waitFor(() => resolves(stage, { enter }), {
      what: `names to be answered to ${nodeName(index)} itself`,
      timeoutMs: backTimeoutMs,
    });
  }
}

/** The link of the node: down for as long as `work` lasts. */
export async function withLinkDown(
  { layout }: ClusterStage,
  node: number,
  work: () => Promise<void>,
): Promise<void> {
  const set = (state: 'down' | 'up'): ReturnType<typeof tryRun> =>
    tryRun(...inControlPlane(layout, 'ip', ['link', 'set', `v${node}`, state]));
  await set('down');
  try {
    await work();
  } finally {
    await set('up');
  }
}

/** Packets to the API server are lost for as long as `work` lasts: connections look alive at both ends. */
export async function withApiCut(
  { layout }: ClusterStage,
  work: () => Promise<void>,
): Promise<void> {
  const rule = ['INPUT', '-i', 'br0', '-p', 'tcp', '--dport', '6443', '-j', 'DROP'];
  const iptables = (action: string): ReturnType<typeof tryRun> =>
    tryRun(...inControlPlane(layout, 'iptables', ['-w', action, ...rule]));
  await iptables('-I');
  try {
    await work();
  } finally {
    await iptables('-D');
  }
}
