// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** `tandem doctor` on a test node, as a process of its own in the node's namespace. */

import { tryRun } from '@tandem/testing/process';
import { tandemMain } from './built.ts';
import type { TandemNode } from './tandem-node.ts';

const boundMs = 60_000;

/** One element of `checks` in its JSON. */
export interface Finding {
  readonly check: string;
  readonly status: string;
  readonly why: string;
  readonly fix: string | null;
}

export interface Diagnosis {
  readonly code: number | null;
  /** By check; of several results of one check the last. */
  readonly checks: ReadonlyMap<string, Finding>;
}

/** `environment`: added to that of this process. */
export async function doctorOf(
  tandem: TandemNode,
  environment: Readonly<Record<string, string>> = {},
): Promise<Diagnosis> {
  const flags = [
    `--bpffs-dir=${tandem.pinRoot}`,
    `--run-dir=${tandem.runDirectory}`,
    `--state-dir=${tandem.stateDirectory}`,
  ];
  const command = tandem.node.node.enter(process.execPath, [
    ...[tandemMain, ...flags],
    ...['doctor', '-o', 'json'],
  ]);
  const { status, stdout, stderr } = await tryRun(...command, {
    timeoutMs: boundMs,
    env: { ...process.env, ...environment },
  });
  if (stdout === '') throw new Error(`doctor said nothing: ${stderr}`);
  const { checks } = JSON.parse(stdout) as { readonly checks: readonly Finding[] };
  return { code: status, checks: new Map(checks.map((each) => [each.check, each])) };
}
