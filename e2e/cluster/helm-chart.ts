// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** charts/tandem as Helm renders it, for its tests. */

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type RunResult, tryRun } from '@tandem/testing/process';
import { parseAllDocuments } from 'yaml';
import type { HelmProgram } from './kubectl.ts';
import { binary } from './programs.ts';

export const repository: string = fileURLToPath(new URL('../..', import.meta.url));
export const chart: string = join(repository, 'charts/tandem');
const timeoutMs = 60_000;
/** Kubernetes version for which charts are rendered unless the arguments name another one. */
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
  return runHelm('helm', args);
}

export function runHelm(program: HelmProgram, args: readonly string[]): Promise<RunResult> {
  return tryRun(binary(program, 'helm'), args, { timeoutMs });
}

/** All that may be turned on, so that each template is there. */
export const everything: readonly string[] = [
  ...['cleanup.onUninstall=true', 'metrics.address=node', 'metrics.podMonitor.enabled=true'],
  ...['metrics.rules.enabled=true', 'metrics.dashboards.enabled=true', 'test.reachName=a.example'],
].flatMap((each) => ['--set', each]);

/** As for a cluster that reaches no registry but its own. */
export const airGap: readonly string[] = [
  ...['global.imageRegistry=harbor.local:5000', 'global.imagePullSecrets={harbor}'],
  ...['agent.image.digest=', 'dnsProxy.image.digest='].map(
    (each) => `${each}sha256:${'0f'.repeat(32)}`,
  ),
].flatMap((each) => ['--set', each]);

/** Values of the chart that are rendered in tests, by name. */
export const forms: Readonly<Record<string, readonly string[]>> = {
  defaults: [],
  'everything on': everything,
  'without a registry of others': airGap,
  'k3s, without surge': [
    ...['gate.confDir=/var/lib/rancher/k3s/agent/etc/cni/net.d'],
    ...['gate.binDir=/var/lib/rancher/k3s/data/cni', 'dnsProxy.netAdmin=true'],
    ...['updateStrategy.maxSurge=0', 'updateStrategy.maxUnavailable=10%', 'drainSeconds=60'],
  ].flatMap((each) => ['--set', each]),
  'without a gate': ['--set', 'gate.enabled=false'],
};
/** Minor versions of Kubernetes 1 that the chart is for. */
export const kubernetesMinors: readonly number[] = [32, 33, 34, 35, 36, 37, 38];

export function objectsOf(text: string): readonly ChartObject[] {
  const documents = parseAllDocuments(text);
  assert.ok(Array.isArray(documents));
  return documents.map((each) => each.toJS() as ChartObject).filter((each) => each !== null);
}

export function template(...args: readonly string[]): Promise<RunResult> {
  return helm('template', 'tandem', chart, ...kubernetes, ...args);
}

/** @throws AssertionError when Helm refuses. */
export async function rendered(...args: readonly string[]): Promise<readonly ChartObject[]> {
  const { status, stdout, stderr } = await template(...args);
  assert.equal(status, 0, stderr);
  return objectsOf(stdout);
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
  readonly enableServiceLinks?: boolean;
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
