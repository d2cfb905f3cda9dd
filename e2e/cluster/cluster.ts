// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A cluster from nothing, and to nothing again, whatever state a run before left it in. */

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeImages } from './bed-images.ts';
import { nodeNamespace, removeNetns, startNode, stopNode } from './cluster-node.ts';
import { makeControlPlaneNetwork, startControlPlane, startWorld } from './control-plane.ts';
import { coreDns } from './core-dns.ts';
import { buildGoPrograms } from './go-programs.ts';
import { kubectl, kubectlApply } from './kubectl.ts';
import { makePki } from './pki.ts';
import { controlPlaneNamespace, endProcess, isAlive, until } from './processes.ts';
import {
  type ClusterRecord,
  type ClusterSpec,
  imageDirectory,
  nodeName,
  recordPath,
  stateDirectory,
} from './settings.ts';

export type Say = (line: string) => void;

/** kubelet sets these for the whole machine. */
const sysctls = [
  ...['vm/overcommit_memory', 'vm/panic_on_oom', 'kernel/panic', 'kernel/panic_on_oops'],
  ...['kernel/keys/root_maxkeys', 'kernel/keys/root_maxbytes'],
];

export function readRecord(): ClusterRecord | null {
  if (!existsSync(recordPath)) return null;
  return JSON.parse(readFileSync(recordPath, 'utf8')) as ClusterRecord;
}

/** Whether all that was started lives. */
export function isRunning({ controlPlane, nodePids }: ClusterRecord): boolean {
  return [...Object.values(controlPlane), ...nodePids].every(isAlive);
}

export async function up(spec: ClusterSpec, say: Say): Promise<void> {
  await buildGoPrograms(say);
  await down(say);
  mkdirSync(stateDirectory, { recursive: true });
  let record: ClusterRecord = { ...spec, controlPlane: {}, nodePids: [], sysctls: readSysctls() };
  const keep = (changes: Partial<ClusterRecord>): void => {
    record = { ...record, ...changes };
    writeFileSync(recordPath, JSON.stringify(record, null, 2));
  };
  keep({});
  say('making images');
  await makeImages();
  makePki(spec.nodes);
  makeControlPlaneNetwork();
  say('starting the control plane');
  const world = startWorld();
  keep({ controlPlane: { world } });
  keep({ controlPlane: { world, ...(await startControlPlane()) } });
  for (let i = 1; i <= spec.nodes; i++) {
    say(`starting node ${nodeName(i)}`);
    // oxlint-disable-next-line no-await-in-loop -- each is recorded when it is there
    keep({ nodePids: [...record.nodePids, await startNode(i, spec)] });
  }
  await waitForNodes(spec.nodes);
  say('all nodes are ready; starting CoreDNS');
  kubectlApply(coreDns);
  kubectl('-n', 'kube-system', 'rollout', 'status', 'deploy/coredns', '--timeout=120s');
  say('the cluster is ready');
}

export async function waitForNodes(nodes: number): Promise<void> {
  const isReady = await until(() => {
    const states = kubectl(
      ...['get', 'nodes', '-o'],
      'jsonpath={range .items[*]}{.status.conditions[?(@.type=="Ready")].status}{"\\n"}{end}',
    );
    return states.split('\n').filter((state) => state === 'True').length === nodes;
  }, 180_000);
  if (!isReady)
    throw new Error(`not all nodes are ready: kubectl get nodes, logs in ${stateDirectory}`);
}

/** Ends and removes everything; images that need long to make stay. */
export async function down(say: Say): Promise<void> {
  const record = readRecord();
  if (record !== null) {
    say('ending the cluster that is there');
    await Promise.all(record.nodePids.map((pid, i) => stopNode(i + 1, pid)));
    await Promise.all(Object.values(record.controlPlane).map((pid) => endProcess(pid)));
    restoreSysctls(record.sysctls);
  }
  for (let i = 1; i <= 9; i++) removeNetns(nodeNamespace(i));
  removeNetns(controlPlaneNamespace);
  if (!existsSync(stateDirectory)) return;
  for (const entry of readdirSync(stateDirectory)) {
    const path = join(stateDirectory, entry);
    if (path !== imageDirectory) rmSync(path, { recursive: true, force: true });
  }
}

function readSysctls(): Readonly<Record<string, string>> {
  return Object.fromEntries(
    sysctls.map((name) => [name, readFileSync(join('/proc/sys', name), 'utf8').trim()]),
  );
}

function restoreSysctls(values: Readonly<Record<string, string>>): void {
  for (const [name, value] of Object.entries(values)) {
    execFileSync('sysctl', ['-qw', `${name}=${value}`], { stdio: 'ignore' });
  }
}
