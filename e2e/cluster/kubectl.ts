// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** kubectl and helm against a cluster of the bed: for code, and as wrappers on disk for a person. */

import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type RunResult, run, tryRun } from '@tandem/testing/process';
import type { Layout } from './layout.ts';
import { binary } from './programs.ts';

const timeoutMs = 180_000;
/** Above the longest `--timeout` that is given to it. */
const helmTimeoutMs = 630_000;

interface KubectlOptions {
  /** For `-f -`. */
  readonly input?: string;
  readonly timeoutMs?: number;
}

/** Its output. @throws Error with what it wrote when it fails. */
export async function kubectl(
  layout: Layout,
  args: readonly string[],
  options: KubectlOptions = {},
): Promise<string> {
  return (await run(...kubectlCommand(layout, args), { timeoutMs, ...options })).stdout;
}

/** Whatever comes of it. */
export function tryKubectl(
  layout: Layout,
  args: readonly string[],
  options: KubectlOptions = {},
): Promise<RunResult> {
  return tryRun(...kubectlCommand(layout, args), { timeoutMs, ...options });
}

/** A field of them that another client has set becomes ours. */
export async function applyObjects(layout: Layout, objects: readonly unknown[]): Promise<void> {
  const list = { apiVersion: 'v1', kind: 'List', items: objects };
  const command = ['apply', '--server-side', '--force-conflicts', '-f', '-'];
  await kubectl(layout, command, { input: JSON.stringify(list) });
}

/** `kubectl tandem`, found and run as on a user's machine. */
export function kubectlTandem(layout: Layout, args: readonly string[]): Promise<RunResult> {
  const path = `PATH=${layout.bin}:${process.env['PATH'] ?? ''}`;
  return tryRun('env', [path, 'kubectl', 'tandem', ...args], { timeoutMs });
}

/** Helm 3 and Helm 4. */
export const helmPrograms = ['helm', 'helm-4'] as const;
export type HelmProgram = (typeof helmPrograms)[number];

/** helm, which must be built. @throws Error with what it wrote when it fails. */
export async function helm(
  layout: Layout,
  args: readonly string[],
  program: HelmProgram = 'helm',
): Promise<string> {
  const command = clientCommand(layout, binary(program, 'helm'), args);
  return (await run(...command, { timeoutMs: helmTimeoutMs })).stdout;
}

export const adminKubeconfig = (layout: Layout): string => join(layout.pki, 'admin.conf');

function kubectlCommand(layout: Layout, args: readonly string[]): [string, string[]] {
  return clientCommand(layout, binary('kubernetes', 'kubectl'), args);
}

function clientCommand(
  layout: Layout,
  program: string,
  args: readonly string[],
): [string, string[]] {
  const netns = `--net=/run/netns/${layout.controlPlaneNetns}`;
  return ['nsenter', [netns, program, `--kubeconfig=${adminKubeconfig(layout)}`, ...args]];
}

/** The API server's address exists only inside its namespace: the wrappers enter it. The plugin runs the first of them. */
export function writeWrappers(layout: Layout): void {
  mkdirSync(layout.bin, { recursive: true });
  const programs = { kubectl: binary('kubernetes', 'kubectl'), helm: binary('helm') };
  for (const [name, program] of Object.entries(programs)) {
    const path = join(layout.bin, name);
    const text = `#!/bin/sh
KUBECONFIG=\${KUBECONFIG:-${adminKubeconfig(layout)}} exec nsenter --net=/run/netns/${layout.controlPlaneNetns} ${program} "$@"
`;
    writeProgram(path, text);
  }
  const plugin = fileURLToPath(new URL('../../packages/cli/bin/kubectl-tandem', import.meta.url));
  const text = `#!/bin/sh\nTANDEM_NODE=${process.execPath} exec ${plugin} "$@"\n`;
  writeProgram(join(layout.bin, 'kubectl-tandem'), text);
}

function writeProgram(path: string, text: string): void {
  writeFileSync(path, text);
  chmodSync(path, 0o755);
}
