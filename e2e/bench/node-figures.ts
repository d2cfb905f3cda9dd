// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Figures of the agent on a node, from the tests that hold their bounds, each in a process of its own. */

import { fileURLToPath } from 'node:url';
import { tryRun } from '@tandem/testing/process';

const timeoutMs = 300_000;

export interface NodeFigures {
  /** CPU time of the main thread for a reconciliation of 50,000 classes and 50,000 entries, median. */
  readonly reconcileMs: number;
  /** From the end of the command that deletes rules, routes or the nft table until they are back: the longest. */
  readonly rulesBackMs: number;
}

/** @throws Error with the output of the test: it gave no figure */
export async function nodeFigures(): Promise<NodeFigures> {
  return {
    reconcileMs: await longest(
      '../../packages/agent/src/policy/reconcile-cost.test.ts',
      'reconcile-ms',
    ),
    rulesBackMs: await longest('../scenarios/network-changes.alone.test.ts', 'rules-back-ms'),
  };
}

/** The largest figure of this name that the test says (`figure NAME VALUE`), also where it finds that too large. */
async function longest(path: string, name: string): Promise<number> {
  const file = fileURLToPath(new URL(path, import.meta.url));
  const flags = ['--conditions=@tandem/source', '--disable-warning=ExperimentalWarning'];
  const args = [...flags, '--test-reporter=tap', file];
  const { stdout, stderr } = await tryRun(process.execPath, args, { timeoutMs });
  const said = [...stdout.matchAll(new RegExp(`figure ${name} ([\\d.]+)`, 'g'))];
  if (said.length === 0) throw new Error(`${file} gave no ${name}: ${stderr}${stdout}`);
  return Math.max(...said.map(([, value]) => Number(value)));
}
