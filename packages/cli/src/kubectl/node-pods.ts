// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Which pods of Tandem run on which node, from lists of the API; and whom of a node to ask. */

import { isFields } from '@tandem/core/k8s/shape';
import type { ProcessName } from '../admin/connection.ts';
import { processNames } from '../admin/connection.ts';

export interface TandemPod {
  readonly process: ProcessName;
  readonly name: string;
  readonly namespace: string;
  /** Its container runs; whether it is ready is for the node's own status to say. */
  readonly isRunning: boolean;
  /** Why its container does not run, such as ImagePullBackOff; empty: it does. */
  readonly waitingFor: string;
  readonly isReady: boolean;
  readonly restarts: number;
  /** Image of its container. */
  readonly image: string;
  /** Being deleted. */
  readonly isEnding: boolean;
}

export interface NodePods {
  readonly node: string;
  readonly pods: readonly TandemPod[];
}

/** Label that the chart gives its pods, and that tells one process from the other. */
export const nameLabel = 'app.kubernetes.io/name';
export const podSelector: string = `${nameLabel} in (${processNames.map((each) => `tandem-${each}`).join(',')})`;

/** Each node of `nodes`, and each on which a pod of Tandem is, by name. */
export function nodePods(nodes: readonly unknown[], pods: readonly unknown[]): readonly NodePods[] {
  const byNode = new Map<string, TandemPod[]>();
  for (const node of nodes) byNode.set(textAt(node, 'metadata', 'name'), []);
  for (const pod of pods) {
    const read = readPod(pod);
    const node = textAt(pod, 'spec', 'nodeName');
    if (read === null || node === '') continue;
    const found = byNode.get(node) ?? [];
    byNode.set(node, found);
    found.push(read);
  }
  return [...byNode]
    .map(([node, found]) => ({ node, pods: found }))
    .toSorted((a, b) => (a.node < b.node ? -1 : 1));
}

/** Pods of a node that can be asked, the best first: the agent before the DNS proxy, ready before others. */
export function askable(pods: readonly TandemPod[]): readonly TandemPod[] {
  const rank = (pod: TandemPod): number =>
    (pod.isReady ? 0 : 4) + (pod.isEnding ? 2 : 0) + processNames.indexOf(pod.process);
  return pods.filter(({ isRunning }) => isRunning).toSorted((a, b) => rank(a) - rank(b));
}

function readPod(pod: unknown): TandemPod | null {
  const label = textAt(pod, 'metadata', 'labels', nameLabel);
  const process = processNames.find((each) => label === `tandem-${each}`);
  if (process === undefined) return null;
  const statuses = valueAt(pod, 'status', 'containerStatuses');
  const [container] = Array.isArray(statuses) ? (statuses as unknown[]) : [];
  const restarts = valueAt(container, 'restartCount');
  return {
    process,
    name: textAt(pod, 'metadata', 'name'),
    namespace: textAt(pod, 'metadata', 'namespace'),
    isRunning: isFields(valueAt(container, 'state', 'running')),
    waitingFor:
      textAt(container, 'state', 'waiting', 'reason') ||
      textAt(container, 'state', 'terminated', 'reason'),
    isReady: valueAt(container, 'ready') === true,
    image: imageOf(pod),
    restarts: typeof restarts === 'number' ? restarts : 0,
    isEnding: textAt(pod, 'metadata', 'deletionTimestamp') !== '',
  };
}

/** As the pod asks for it: the status names what it was resolved to. */
function imageOf(pod: unknown): string {
  const containers = valueAt(pod, 'spec', 'containers');
  return Array.isArray(containers) ? textAt((containers as unknown[])[0], 'image') : '';
}

function valueAt(object: unknown, ...path: readonly string[]): unknown {
  return path.reduce<unknown>((at, key) => (isFields(at) ? at[key] : undefined), object);
}

function textAt(object: unknown, ...path: readonly string[]): string {
  const value = valueAt(object, ...path);
  return typeof value === 'string' ? value : '';
}
