// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * `kubectl tandem sysdump`: the facts for a support case in one directory: state and logs of the processes of each node, and the
 * objects of the cluster that decide. A part that fails becomes a line in `errors.txt`, and the
 * others continue. No Secret is read, and fields in which people put secrets are left out of other objects (without-secrets.ts).
 */

import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { isFields } from '@tandem/core/k8s/shape';
import { usageError } from '../errors.ts';
import { type ExitCode, exitCode } from '../exit-codes.ts';
import { findNodes, inTurns, runOnNode } from './ask-nodes.ts';
import type { PluginContext } from './context.ts';
import { absentKind, type Kubectl, type KubectlResult, reasonOf } from './kubectl.ts';
import { listTimeoutMs, sysdumpLogLines } from './limits.ts';
import { type NodePods, nameLabel, type TandemPod } from './node-pods.ts';
import { Progress } from './progress.ts';
import { Redactor } from './redact.ts';
import { withoutSecrets } from './without-secrets.ts';

export interface SysdumpOptions {
  readonly directory: string | undefined;
  readonly isRedacted: boolean;
}

/** Files that a sysdump has of each node, with their commands. */
const nodeCommands: Readonly<Record<string, readonly string[]>> = {
  'status.json': ['--output=json', 'status'],
  'status.txt': ['status'],
  'doctor.json': ['--output=json', 'doctor'],
  'endpoints.json': ['--output=json', 'endpoint', 'list'],
  'fqdn.json': ['--output=json', 'fqdn', 'list'],
  'events.json': ['--output=json', 'observe', '--no-follow', '--last=2000'],
};

/** Kinds whose objects decide; one that the cluster does not have is passed over. */
const kinds = [
  ...['nodes', 'namespaces', 'pods', 'services', 'endpointslices.discovery.k8s.io'],
  ...['networkpolicies.networking.k8s.io', 'ciliumnetworkpolicies.cilium.io'],
  ...[
    'ciliumclusterwidenetworkpolicies.cilium.io',
    'ciliumlocalredirectpolicies.cilium.io',
    'clusternetworkpolicies.policy.networking.k8s.io',
    'adminnetworkpolicies.policy.networking.k8s.io',
    'baselineadminnetworkpolicies.policy.networking.k8s.io',
  ],
  ...['daemonsets.apps', 'deployments.apps', 'leases.coordination.k8s.io', 'events'],
];

interface Part {
  readonly file: string;
  /** The text, or why there is none. */
  readonly text: string | null;
  readonly error: string;
}

export async function runSysdump(
  { kubectl, out, notes, nodes: names, nowMs }: PluginContext,
  { directory, isRedacted }: SysdumpOptions,
): Promise<ExitCode> {
  const nodes = await findNodes(kubectl, names);
  const time = new Date(nowMs()).toISOString().replaceAll(/[:.]/g, '-').slice(0, 19);
  const target = directory ?? `tandem-sysdump-${time}`;
  makeDirectory(target);
  const jobs = [
    ...kinds.map((kind) => () => objectsOf(kubectl, kind)),
    ...nodeJobs(kubectl, nodes),
    () => controllerLog(kubectl, nodes),
  ];
  const progress = new Progress(notes, 'parts collected', jobs.length);
  const parts = await inTurns(jobs, async (job) => {
    const part = await job();
    progress.step();
    return part;
  });
  const redactor = isRedacted ? new Redactor(namesIn(parts)) : null;
  const written = writeParts(target, parts, redactor);
  const errors = parts.filter(({ error }) => error !== '');
  out.line(`${target}: ${written} files of ${nodes.length} nodes`);
  if (!isRedacted) out.line('It holds names and addresses of the cluster: --redact replaces them.');
  for (const { file, error } of errors) notes.line(`missing ${file}: ${error}`);
  return errors.length === 0 ? exitCode.ok : exitCode.problem;
}

function makeDirectory(path: string): void {
  try {
    mkdirSync(dirname(path), { recursive: true });
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    throw usageError(`make ${path}: ${(error as Error).message}. Choose another --directory`);
  }
}

async function objectsOf(kubectl: Kubectl, kind: string): Promise<Part> {
  const file = `cluster/${kind}.json`;
  const result = await kubectl.run(['get', kind, '--all-namespaces', '--output=json'], {
    leastTimeoutMs: listTimeoutMs,
  });
  if (result.code === 0 && !result.isCut)
    return { file, text: withoutSecrets(result.stdout), error: '' };
  const isAbsent = absentKind.test(result.stderr);
  return { file, text: null, error: isAbsent ? '' : reasonOf(result) };
}

function nodeJobs(kubectl: Kubectl, nodes: readonly NodePods[]): readonly (() => Promise<Part>)[] {
  return nodes.flatMap((node) => [
    ...Object.entries(nodeCommands).map(([file, args]) => async () => {
      const result = await runOnNode(kubectl, node, args);
      const path = fileOf(node.node, file);
      return typeof result === 'string'
        ? { file: path, text: null, error: result }
        : outputOf(path, result);
    }),
    ...node.pods.flatMap((pod) =>
      [false, true].map((isPrevious) => () => logOf(kubectl, node, pod, isPrevious)),
    ),
  ]);
}

/** kubectl adds the exit code to stderr, which is no part of a document: that of a degraded node must be one, too. */
export function outputOf(file: string, { code, stdout, stderr }: KubectlResult): Part {
  if (!file.endsWith('.json')) return { file, text: stdout + stderr, error: '' };
  if (stdout === '' && code !== 0)
    return { file, text: null, error: stderr.replaceAll(/\s*\n\s*/g, '; ') };
  return { file, text: stdout, error: '' };
}

async function logOf(
  kubectl: Kubectl,
  { node }: NodePods,
  { namespace, name, process, restarts }: TandemPod,
  isPrevious: boolean,
): Promise<Part> {
  const file = fileOf(node, `${name}${isPrevious ? '.previous' : ''}.log`);
  if (isPrevious && restarts === 0) return { file, text: null, error: '' };
  const where = [`--namespace=${namespace}`, name, `--container=${process}`];
  const result = await kubectl.run([
    ...['logs', ...where, `--tail=${sysdumpLogLines}`, '--timestamps'],
    ...(isPrevious ? ['--previous'] : []),
  ]);
  if (result.code === 0) return { file, text: result.stdout, error: '' };
  return { file, text: null, error: reasonOf(result) };
}

/** Logs of all controllers, each line with its pod; empty without a controller. */
async function controllerLog(kubectl: Kubectl, nodes: readonly NodePods[]): Promise<Part> {
  const file = 'controller.log';
  const [pod] = nodes.flatMap(({ pods }) => pods);
  if (pod === undefined) return { file, text: null, error: '' };
  const result = await kubectl.run([
    ...['logs', `--namespace=${pod.namespace}`, `--selector=${nameLabel}=tandem-controller`],
    ...['--prefix', '--timestamps', `--tail=${sysdumpLogLines}`],
  ]);
  if (result.code !== 0) return { file, text: null, error: reasonOf(result) };
  return { file, text: result.stdout === '' ? null : result.stdout, error: '' };
}

const fileOf = (node: string, file: string): string => `nodes/${node}/${file}`;

/** Names and namespaces of all objects that were collected. */
function namesIn(parts: readonly Part[]): ReadonlySet<string> {
  const names = new Set<string>();
  for (const { file, text } of parts) {
    if (text === null || !file.startsWith('cluster/')) continue;
    const { items } = JSON.parse(text) as { readonly items?: readonly unknown[] };
    for (const item of items ?? []) {
      const metadata = isFields(item) ? item['metadata'] : undefined;
      if (!isFields(metadata)) continue;
      for (const key of ['name', 'namespace']) {
        const name = metadata[key];
        if (typeof name === 'string') names.add(name);
      }
    }
  }
  return names;
}

/** Returns how many files there are. */
function writeParts(target: string, parts: readonly Part[], redactor: Redactor | null): number {
  const redact = (text: string): string => redactor?.text(text) ?? text;
  let count = 0;
  const write = (file: string, text: string): void => {
    // A mark is no good name of a file on every system.
    const path = join(target, redact(file).replaceAll(/[<>:]/g, '_'));
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, redact(text));
    count += 1;
  };
  for (const { file, text } of parts) if (text !== null) write(file, text);
  const errors = parts.filter(({ error }) => error !== '');
  if (errors.length > 0)
    write('errors.txt', errors.map(({ file, error }) => `${file}: ${error}\n`).join(''));
  return count;
}
