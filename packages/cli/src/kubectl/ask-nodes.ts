// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Runs the command `tandem` in a pod of Tandem on each node. */

import { usageError } from '../errors.ts';
import type { NodeReport } from '../node/report-model.ts';
import type { NodeAnswer } from './cluster-report.ts';
import { hasRun, type Kubectl, type KubectlResult, reasonOf } from './kubectl.ts';
import { nodesAtOnce } from './limits.ts';
import { askable, type NodePods, nodePods, podSelector, type TandemPod } from './node-pods.ts';

/** Where the images have the command; /bin/node is their only program that runs it. */
const command = ['/bin/node', '/opt/tandem/dist/tandem.js'] as const;

/** The nodes of the cluster, or those named. @throws TandemError when the API refuses, or a node is not there. */
export async function findNodes(
  kubectl: Kubectl,
  names: readonly string[],
): Promise<readonly NodePods[]> {
  const [nodes, pods] = await Promise.all([
    kubectl.list(['nodes']),
    kubectl.list(['pods', '--all-namespaces', `--selector=${podSelector}`]),
  ]);
  const all = nodePods(nodes, pods);
  if (all.every((node) => node.pods.length === 0)) {
    throw usageError(
      'no pod of Tandem in this cluster: install the chart, or choose another --context',
    );
  }
  const unknown = names.find((name) => !all.some(({ node }) => node === name));
  if (unknown !== undefined) throw usageError(`no node ${unknown}: see kubectl get nodes`);
  return names.length === 0 ? all : all.filter(({ node }) => names.includes(node));
}

/** Arguments of kubectl that run `tandem ARGS` in a pod. */
export function inPod(pod: TandemPod, args: readonly string[]): readonly string[] {
  const where = [`--namespace=${pod.namespace}`, pod.name, `--container=${pod.process}`];
  return ['exec', ...where, '--', ...command, ...args];
}

/** The first of the node's pods that can run `tandem ARGS`; an error where there is none. */
export async function runOnNode(
  kubectl: Kubectl,
  { pods }: NodePods,
  args: readonly string[],
): Promise<KubectlResult | string> {
  let reason = '';
  for (const pod of askable(pods)) {
    const result = await kubectl.run(inPod(pod, args));
    if (hasRun(result)) return result;
    reason = `${pod.name}: ${reasonOf(result)}`;
  }
  if (reason !== '') return reason;
  return whyNobody(pods);
}

/** Why none of these pods can run a command. */
export function whyNobody(pods: readonly TandemPod[]): string {
  const waiting = pods.map(({ name, waitingFor }) => `${name} ${waitingFor || 'does not run'}`);
  return waiting.join(', ') || 'no pod of Tandem';
}

/** `tandem status` of each node. `onAnswer` is called for each that has answered. */
export async function askStatus(
  kubectl: Kubectl,
  nodes: readonly NodePods[],
  onAnswer: () => void,
): Promise<readonly NodeAnswer[]> {
  return await inTurns(nodes, async (node) => {
    const result = await runOnNode(kubectl, node, ['--output=json', 'status']);
    onAnswer();
    if (typeof result === 'string') return { ...node, report: null, error: result };
    return { ...node, ...parseReport(result.stdout) };
  });
}

function parseReport(text: string): Pick<NodeAnswer, 'report' | 'error'> {
  try {
    const report = JSON.parse(text) as Partial<NodeReport>;
    if (Array.isArray(report.members) && Array.isArray(report.degraded))
      return { report: report as NodeReport, error: '' };
  } catch {
    // Below.
  }
  return { report: null, error: 'an answer that is no status: is it another version?' };
}

/** `work` for all of `items`, so many at a time; in their order. */
export async function inTurns<T, R>(
  items: readonly T[],
  work: (item: T) => Promise<R>,
): Promise<readonly R[]> {
  const results: R[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < items.length) {
      const index = next++;
      results[index] = await work(items[index] as T);
    }
  };
  await Promise.all(Array.from({ length: Math.min(nodesAtOnce, items.length) }, worker));
  return results;
}
