// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * `kubectl tandem policy validate`: what the agents would say of the policies of the cluster, or of files as if they were applied to it.
 * Everything that a policy may name (pods, Services, namespaces) is the cluster's, so nothing is left to assume.
 */

import { isFields } from '@tandem/core/k8s/shape';
import { TandemError } from '@tandem/runtime/tandem-error';
import { printValidation } from '../commands/policy-validate.ts';
import { type ExitCode, exitCode } from '../exit-codes.ts';
import { type FileContents, type FileObject, readAll } from '../validate/read-files.ts';
import { type Finding, type Validation, validateObjects } from '../validate/validate-objects.ts';
import { inTurns } from './ask-nodes.ts';
import type { PluginContext } from './context.ts';
import { absentKind, itemsOf, type Kubectl, type KubectlResult } from './kubectl.ts';
import { listBytesMax, listTimeoutMs } from './limits.ts';
import { Progress } from './progress.ts';

export interface PolicyValidateOptions {
  /** Empty: the policies of the cluster. */
  readonly files: readonly string[];
  readonly isRecursive: boolean;
  /** Warnings are errors. */
  readonly isStrict: boolean;
}

/** Where an object of the cluster is found, in place of a file and of its documents, which count from 1. */
const inCluster = { file: 'cluster', document: 0 } as const;
const kinds: readonly string[] = [
  ...['namespaces', 'nodes', 'pods', 'services', 'endpointslices.discovery.k8s.io'],
  'networkpolicies.networking.k8s.io',
  ...[
    'ciliumnetworkpolicies',
    'ciliumclusterwidenetworkpolicies',
    'ciliumlocalredirectpolicies',
  ].map((plural) => `${plural}.cilium.io`),
  ...['clusternetworkpolicies', 'adminnetworkpolicies', 'baselineadminnetworkpolicies'].map(
    (plural) => `${plural}.policy.networking.k8s.io`,
  ),
];

export async function runPolicyValidate(
  { kubectl, out, notes, wantsJson }: PluginContext,
  { files, isRecursive, isStrict }: PolicyValidateOptions,
): Promise<ExitCode> {
  const contents = readAll(files, { isRecursive });
  const progress = new Progress(notes, 'kinds read', kinds.length);
  const lists = await inTurns(kinds, async (kind) => {
    const objects = await objectsOf(kubectl, kind);
    progress.step();
    return objects;
  });
  const validation = validateBeside(lists.flat(), contents);
  const isValid = validation.findings.every(({ severity }) => severity !== 'error' && !isStrict);
  if (wantsJson) out.json({ isValid, ...validation });
  else printValidation(out, validation);
  return isValid ? exitCode.ok : exitCode.problem;
}

/**
 * Findings of `contents` among the objects of a cluster, which they replace where names are equal; without files the findings of the
 * cluster.
 */
export function validateBeside(objects: readonly unknown[], contents: FileContents): Validation {
  const given = new Set(contents.objects.map(({ raw }) => keyOf(raw)));
  const others = objects
    .filter((raw) => !given.has(keyOf(raw)))
    .map((raw): FileObject => ({ ...inCluster, raw, lineOf: () => 0 }));
  const all = validateObjects({ ...contents, objects: [...others, ...contents.objects] });
  if (contents.files.length === 0) return all;
  const own = validateObjects(contents);
  // A file may have any name. As a whole it has no document either, and is then no YAML.
  const isOwn = ({ code, document }: Finding): boolean =>
    document !== inCluster.document || code === 'yaml';
  return { ...own, findings: all.findings.filter(isOwn) };
}

/** Kinds whose objects have no namespace, whatever a file says. */
const clusterwideKinds: ReadonlySet<unknown> = new Set([
  ...['Namespace', 'Node', 'CiliumClusterwideNetworkPolicy', 'ClusterNetworkPolicy'],
  ...['AdminNetworkPolicy', 'BaselineAdminNetworkPolicy'],
]);

/** '' if it is no object. The version says nothing: the API server has one object in each. */
function keyOf(raw: unknown): string {
  if (!isFields(raw) || !isFields(raw['metadata'])) return '';
  const { name, namespace } = raw['metadata'];
  const { kind } = raw;
  const group = String(raw['apiVersion']).split('/').slice(0, -1).join('/');
  const where = clusterwideKinds.has(kind) ? '' : namespace || 'default';
  return JSON.stringify([group, kind, where, name]);
}

async function objectsOf(kubectl: Kubectl, kind: string): Promise<readonly unknown[]> {
  const result = await kubectl.run(['get', kind, '--all-namespaces', '--output=json'], {
    ...{ leastTimeoutMs: listTimeoutMs, bytesMax: listBytesMax },
  });
  return absentKind.test(result.stderr) ? [] : listedObjects(kind, result);
}

/** @throws TandemError TANDEM_CLI_KUBECTL: not all of them could be had, with what to do */
export function listedObjects(kind: string, result: KubectlResult): readonly unknown[] {
  const what = `kubectl get ${kind}`;
  let reason = '';
  if (result.isCut) {
    reason = `has more than ${listBytesMax >> 20} MiB, which is the limit: check files without the cluster, tandem policy validate -f FILE`;
  } else if (result.isLate) {
    reason = `gave no answer in time (${listTimeoutMs / 1000} s, or --timeout if that is longer): raise --timeout, or see whether the API server answers (kubectl get --raw /readyz)`;
  }
  if (reason !== '') throw new TandemError('TANDEM_CLI_KUBECTL', `${what} ${reason}`);
  return itemsOf(what, result);
}
