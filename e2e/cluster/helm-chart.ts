// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** charts/tandem as Helm renders it, for its tests. */

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type RunResult, tryRun } from '@tandem/testing/process';
import { parseAllDocuments } from 'yaml';
import { binary } from './programs.ts';

export const repository: string = fileURLToPath(new URL('../..', import.meta.url));
export const chart: string = join(repository, 'charts/tandem');
const timeoutMs = 60_000;
/** What is rendered for, where the arguments name no other. */
const kubernetes = ['--kube-version', '1.36.3'];

export interface ChartObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  };
}

export function helm(...args: readonly string[]): Promise<RunResult> {
  return tryRun(binary('helm'), args, { timeoutMs });
}

export function template(...args: readonly string[]): Promise<RunResult> {
  return helm('template', 'tandem', chart, ...kubernetes, ...args);
}

/** @throws AssertionError when Helm refuses. */
export async function rendered(...args: readonly string[]): Promise<readonly ChartObject[]> {
  const { status, stdout, stderr } = await template(...args);
  assert.equal(status, 0, stderr);
  const documents = parseAllDocuments(stdout);
  assert.ok(Array.isArray(documents));
  return documents.map((each) => each.toJS() as ChartObject).filter((each) => each !== null);
}

export interface EnvironmentVariable {
  readonly name: string;
  readonly value?: string;
}
export interface ChartContainer {
  readonly name: string;
  readonly image: string;
  readonly args?: readonly string[];
  readonly command?: readonly string[];
  readonly env?: readonly EnvironmentVariable[];
  readonly securityContext: Readonly<Record<string, unknown>>;
  readonly volumeMounts?: readonly { readonly name: string; readonly mountPath: string }[];
}
export interface ChartPod {
  readonly hostNetwork?: boolean;
  readonly automountServiceAccountToken?: boolean;
  readonly imagePullSecrets?: readonly { readonly name: string }[];
  readonly containers: readonly ChartContainer[];
  readonly initContainers?: readonly ChartContainer[];
}

/** Pods that an object is or makes: none of other kinds. */
export function podOf(object: ChartObject): ChartPod | null {
  const { kind, spec } = object as unknown as { kind: string; spec?: unknown };
  if (kind === 'Pod') return spec as ChartPod;
  if (!['DaemonSet', 'Deployment', 'Job'].includes(kind)) return null;
  return (spec as { readonly template: { readonly spec: ChartPod } }).template.spec;
}

export function podsOf(objects: readonly ChartObject[]): readonly ChartPod[] {
  return objects.flatMap((each) => podOf(each) ?? []);
}

export const containersOf = (pod: ChartPod): readonly ChartContainer[] => [
  ...(pod.initContainers ?? []),
  ...pod.containers,
];
