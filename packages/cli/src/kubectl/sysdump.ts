// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * `kubectl tandem sysdump`: the facts for a support case in one directory: state and logs of the processes of each node, and the
 * objects of the cluster that decide. A part that fails becomes a line in `errors.txt`, and the
 * others continue. No Secret is read, and fields in which people put secrets are left out of other objects (without-secrets.ts).
 */

import { mkdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { isFields } from '@tandem/core/k8s/shape';
import { TandemError } from '@tandem/runtime/tandem-error';
import { usageError } from '../errors.ts';
import { type ExitCode, exitCode } from '../exit-codes.ts';
import { findNodes, inTurns, runOnNode } from './ask-nodes.ts';
import type { PluginContext } from './context.ts';
import { absentKind, type Kubectl, type KubectlResult, reasonOf } from './kubectl.ts';
import { listBytesMax, listTimeoutMs, sysdumpLogLines } from './limits.ts';
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

/** Kinds whose names status, doctor, events and logs of the nodes have, and that `--redact` promises to replace. */
const namedKinds = [
  ...['nodes', 'namespaces', 'pods', 'services'],
  ...['networkpolicies.networking.k8s.io', 'ciliumnetworkpolicies.cilium.io'],
  ...[
    'ciliumclusterwidenetworkpolicies.cilium.io',
    'ciliumlocalredirectpolicies.cilium.io',
    'clusternetworkpolicies.policy.networking.k8s.io',
    'adminnetworkpolicies.policy.networking.k8s.io',
    'baselineadminnetworkpolicies.policy.networking.k8s.io',
  ],
];

/** Kinds whose objects decide; one that the cluster does not have is passed over. */
const kinds = [
  ...namedKinds,
  'endpointslices.discovery.k8s.io',
  ...['daemonsets.apps', 'deployments.apps', 'leases.coordination.k8s.io', 'events'],
];

const namedFiles: ReadonlySet<string> = new Set(namedKinds.map(fileOfKind));

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
  const jobs = [...nodeJobs(kubectl, nodes), () => controllerLog(kubectl, nodes)];
  const progress = new Progress(notes, 'parts collected', kinds.length + jobs.length);
  const lists = await inTurns(kinds, async (kind) => {
    const part = await objectsOf(kubectl, kind);
    progress.step();
    return part;
  });
  if (isRedacted) requireNames(lists, target);
  const parts = new PartFiles(target, isRedacted ? new Redactor(namesIn(lists)) : null);
  for (const part of lists) parts.write(part);
  // Written as they come: those of many nodes have no room in memory.
  await inTurns(jobs, async (job) => {
    parts.write(await job());
    progress.step();
  });
  const errors = parts.end();
  out.line(`${target}: ${parts.count} files of ${nodes.length} nodes`);
  if (!isRedacted) out.line('It holds names and addresses of the cluster: --redact replaces them.');
  for (const error of errors) notes.line(`missing ${error}`);
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

function fileOfKind(kind: string): string {
  return `cluster/${kind}.json`;
}

async function objectsOf(kubectl: Kubectl, kind: string): Promise<Part> {
  const file = fileOfKind(kind);
  const result = await kubectl.run(['get', kind, '--all-namespaces', '--output=json'], {
    ...{ leastTimeoutMs: listTimeoutMs, bytesMax: listBytesMax },
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

/** @throws TandemError TANDEM_CLI_KUBECTL: names that `--redact` promises to replace are not known; nothing is left of `target` */
function requireNames(lists: readonly Part[], target: string): void {
  const unread = lists.find(({ file, error }) => error !== '' && namedFiles.has(file));
  if (unread === undefined) return;
  rmdirSync(target);
  const problem = `--redact needs all names of the cluster, and ${unread.file} cannot be had: ${unread.error}`;
  throw new TandemError('TANDEM_CLI_KUBECTL', problem);
}

/** Names and namespaces of all objects that were collected, and of those that events are about, which may be gone. */
function namesIn(lists: readonly Part[]): ReadonlySet<string> {
  const names = new Set<string>();
  for (const { text } of lists) {
    if (text === null) continue;
    const { items } = JSON.parse(text) as { readonly items?: readonly unknown[] };
    for (const item of items ?? []) {
      if (!isFields(item)) continue;
      for (const at of [item['metadata'], item['involvedObject']]) {
        const { name, namespace } = isFields(at) ? at : {};
        for (const each of [name, namespace]) if (typeof each === 'string') names.add(each);
      }
    }
  }
  return names;
}

/** Files of a sysdump. */
class PartFiles {
  count = 0;
  readonly #target: string;
  readonly #redactor: Redactor | null;
  readonly #errors: string[] = [];

  constructor(target: string, redactor: Redactor | null) {
    this.#target = target;
    this.#redactor = redactor;
  }

  write({ file, text, error }: Part): void {
    if (error !== '') this.#errors.push(`${file}: ${error}`);
    if (text === null) return;
    // A mark is no good name of a file on every system.
    const path = join(this.#target, this.#redact(file).replaceAll(/[<>:]/g, '_'));
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, this.#redact(text));
    this.count += 1;
  }

  /** Returns what is missing. */
  end(): readonly string[] {
    const text = this.#errors.map((each) => `${each}\n`).join('');
    if (text !== '') this.write({ file: 'errors.txt', text, error: '' });
    return this.#errors;
  }

  #redact(text: string): string {
    return this.#redactor?.text(text) ?? text;
  }
}
