// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The state of all nodes from what each said of itself, and from the pods of Tandem that the API knows. Pure. */

import type { ProcessName } from '../admin/connection.ts';
import { processNames } from '../admin/connection.ts';
import type { NodeReport } from '../node/report-model.ts';
import type { NodePods, TandemPod } from './node-pods.ts';

/** Request to a node, and its answer. */
export interface NodeAnswer extends NodePods {
  /** Null: it gave none; `error` says why. */
  readonly report: NodeReport | null;
  readonly error: string;
}

export type NodeHealth = NodeReport['health'] | 'unreachable' | 'absent';

/** One node in the JSON of `kubectl tandem status`. Fields are only ever added. */
export interface ClusterNode {
  readonly node: string;
  /** `unreachable`: no pod there could be asked. `absent`: there is no pod of Tandem, so nothing is enforced. */
  readonly health: NodeHealth;
  /** Why it is unreachable; empty: it answered. */
  readonly error: string;
  readonly pods: readonly TandemPod[];
  /** Revisions of policy that the two members serve differ, or are not the one that is wanted. */
  readonly isSkewed: boolean;
  readonly report: NodeReport | null;
}

/** The JSON of `kubectl tandem status`. Fields are only ever added. */
export interface ClusterReport {
  readonly health: 'healthy' | 'degraded' | 'down';
  readonly counts: Readonly<Record<NodeHealth, number>>;
  /** Versions that processes run, with how many of each; more than one while an upgrade is on its way. */
  readonly versions: Readonly<Record<string, number>>;
  readonly nodes: readonly ClusterNode[];
}

export function clusterReport(answers: readonly NodeAnswer[]): ClusterReport {
  const nodes = answers.map(nodeOf);
  const counts = { healthy: 0, degraded: 0, down: 0, unreachable: 0, absent: 0 };
  const versions: Record<string, number> = {};
  for (const { health, report } of nodes) {
    counts[health] += 1;
    for (const { version } of report?.processes ?? []) {
      if (version !== null) versions[version] = (versions[version] ?? 0) + 1;
    }
  }
  const worst = counts.down > 0 ? 'down' : counts.healthy === nodes.length ? 'healthy' : 'degraded';
  return { health: worst, counts, versions, nodes };
}

function nodeOf({ node, pods, report, error }: NodeAnswer): ClusterNode {
  const health = pods.length === 0 ? 'absent' : (report?.health ?? 'unreachable');
  return { node, health, error, pods, isSkewed: report !== null && isSkewed(report), report };
}

function isSkewed({ members, policy }: NodeReport): boolean {
  const wanted = policy.requiredRevision;
  return members.some(
    ({ isServing, revision }) => isServing && wanted !== null && revision < wanted,
  );
}

/** State of one process of a node: "serves", "standby", "ImagePullBackOff", "-". */
export function processText({ pods, report }: ClusterNode, process: ProcessName): string {
  const own = pods.filter((pod) => pod.process === process);
  const member = report?.members.find(({ role }) => role === process);
  if (member?.isServing === true) return 'serves';
  const stuck = own.find(({ isRunning, waitingFor }) => !isRunning && waitingFor !== '');
  if (stuck !== undefined) return stuck.waitingFor;
  if (own.length === 0) return 'no pod';
  return member === undefined || report === null ? '?' : member.state;
}

/** Problems of a node, each in a few words. */
export function problemsOf(node: ClusterNode): readonly string[] {
  const { pods, report, error, isSkewed: skewed } = node;
  if (pods.length === 0) return ['no pod of Tandem: nothing is enforced there'];
  const restarts = processNames.flatMap((process) => {
    const sum = pods
      .filter((pod) => pod.process === process)
      .reduce((total, pod) => total + pod.restarts, 0);
    return sum > 0 ? [`${process} restarted ${sum} times`] : [];
  });
  return [
    ...(error === '' ? [] : [error]),
    ...(report?.degraded ?? []).map(({ code }) => code),
    ...(skewed ? ['a member serves an older revision'] : []),
    ...restarts,
  ];
}
