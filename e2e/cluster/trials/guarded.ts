// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Start of most trials: some pods on the first node under a policy, a bystander that they may not reach, strangers. */

import { waitFor } from '@tandem/testing/wait';
import { applyObjects, kubectl } from '../kubectl.ts';
import { nodeAddress, nodeName, podCidr, worldApiAddress, worldWwwAddress } from '../layout.ts';
import { collector, collectorPort, talkerPort } from './talkers.ts';
import { nothingArrived, type Trial, talkerPolicy, trialNamespace } from './trial.ts';
import { nothingDenied, Witness } from './witness.ts';

const startTimeoutMs = 900_000;
const strangerIntervalMs = 500;
const appearTimeoutMs = 180_000;
/** Time for kubectl to end after a wait of its own. */
const apiTimeoutMs = 10_000;
const intervalMsMin = 200;
const msPerTalker = 8;
/** The first address of a node's pods is the node's, the last one of the network broadcast. */
const podAddresses = (node: number): string => podCidr(node).replace('.0/24', '.2-254');

/** Targets of a talker under `talkerPolicy`, allowed and denied ones. */
export function talkerTargets(trial: Trial, bystander: string): readonly string[] {
  const other = nodeAddress(trial.nodeNames.length);
  return [
    ...[`+udp:${collector}`, `+tcp:${worldApiAddress}:80`],
    ...[`-udp:${worldWwwAddress}:${collectorPort}`, `-tcp:${worldWwwAddress}:80`],
    ...[`-udp:${worldApiAddress}:${collectorPort + 1}`, `-udp:${bystander}:${talkerPort}`],
    ...[`-udp:${other}:${collectorPort}`, `-tcp:${other}:10250`],
  ];
}

/**
 * A bystander and a stranger on each node, whom no policy holds: strangers send to every pod address of the guarded nodes, and nobody
 * of `talkerPolicy` may be reached by them. Gives the bystander's address.
 */
export async function startOthers(
  trial: Trial,
  bystanderNode: string,
  guardedNodes: readonly number[] = [1],
): Promise<string> {
  // it listens elsewhere, for strangers may reach it
  const port = talkerPort + 1;
  await trial.startTalker('bystander', { node: bystanderNode, targets: [], port }, 'free');
  const targets = guardedNodes.map((index) => `?udp:${podAddresses(index)}:${talkerPort}`);
  for (const node of trial.nodeNames) {
    const options = { node, intervalMs: strangerIntervalMs, targets, port };
    await trial.startTalker(`stranger-${node}`, options, 'free');
  }
  return trial.podAddress('bystander');
}

/** Witnesses are outside and in the bystander, from when this resolves. */
export async function startWitnesses(trial: Trial): Promise<void> {
  await proveWitness(trial, await trial.podAddress('bystander'));
  await watch(trial, trial.witness);
}

async function watch(trial: Trial, witness: Witness): Promise<void> {
  await witness.watchOutside(trial.layout);
  await witness.watchPod(trial.layout, 'bystander');
}

/** Proves that each witness sees packets with the mark of denied ones, which a pod without a policy sends: else their absence would prove nothing. */
async function proveWitness(trial: Trial, bystander: string): Promise<void> {
  await using witness = new Witness();
  await watch(trial, witness);
  const targets = [`-udp:${worldWwwAddress}:${collectorPort}`, `-udp:${bystander}:${talkerPort}`];
  await trial.startTalker('control', { node: nodeName(1), targets, port: talkerPort + 1 }, 'free');
  const isSeen = async (): Promise<boolean> =>
    (await witness.seen()).every(({ denied }) => denied > 0);
  await waitFor(isSeen, {
    what: 'packets of the control at each place',
    timeoutMs: appearTimeoutMs,
  });
  await trial.endTalker('control');
}

/** `count` talkers on a node, as a ReplicaSet of this name. Gives their names once each is ready and was heard. */
export async function startTalkers(
  trial: Trial,
  name: string,
  count: number,
  targets: readonly string[],
  node: string = nodeName(1),
): Promise<readonly string[]> {
  // together they send as much, however many they are: so much that a machine with two CPUs can look at it
  const intervalMs = Math.max(intervalMsMin, count * msPerTalker);
  const options = { node, targets, intervalMs };
  const { spec: podSpec } = trial.talkerTemplate('talker', options);
  // of its own: else other talkers would be taken for its pods, and deleted
  const matchLabels = { app: 'talker', set: name };
  const template = { metadata: { labels: matchLabels }, spec: podSpec };
  const spec = { replicas: count, selector: { matchLabels }, template };
  const metadata = { name, namespace: trialNamespace };
  await applyObjects(trial.layout, [
    talkerPolicy,
    { apiVersion: 'apps/v1', kind: 'ReplicaSet', metadata, spec },
  ]);
  // By a watch of one object: lists of all pods, asked for again and again, took a fifth of two CPUs while 250 started.
  const isReady = `--for=jsonpath={.status.readyReplicas}=${count}`;
  const wait = ['-n', trialNamespace, 'wait', `replicaset/${name}`, isReady];
  await kubectl(trial.layout, [...wait, `--timeout=${startTimeoutMs}ms`], {
    timeoutMs: startTimeoutMs + apiTimeoutMs,
  });
  const names = await trial.readyPods(`talker,set=${name}`);
  await trial.collector.waitForAll(names, appearTimeoutMs);
  return names;
}

/** Both, as the first steps of a trial; the bystander is on the last node. */
export async function startGuarded(trial: Trial, count: number): Promise<readonly string[]> {
  const { steps } = trial;
  steps.title(`${count} pods under a policy on ${nodeName(1)}`);
  let names: readonly string[] = [];
  await steps.step('each is ready and heard; strangers send to them', async () => {
    const bystander = await startOthers(trial, trial.nodeNames.at(-1) ?? nodeName(1));
    await startWitnesses(trial);
    names = await startTalkers(trial, 'guarded', count, talkerTargets(trial, bystander));
    return '';
  });
  if (names.length === 0)
    throw new Error('no pods are under policy: what follows would show nothing');
  return names;
}

/** The steps that say whether policy held so far. */
export async function judge(trial: Trial): Promise<void> {
  const { steps } = trial;
  await steps.step('no packet outside of policy', async () =>
    nothingDenied(await trial.witness.seen()),
  );
  await steps.step('nothing of the strangers arrived', () => nothingArrived(trial));
}
