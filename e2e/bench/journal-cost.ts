// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Cost of the journal for a query, from its own benchmark in a process of its own. */

import { fileURLToPath } from 'node:url';
import { run } from '@tandem/testing/process';

const timeoutMs = 60_000;

/** Nanoseconds of the life of a query's slot, medians. */
export interface JournalCost {
  readonly journalNs: number;
  /** The same without states, in private memory. */
  readonly plainNs: number;
  /** Median of the differences within a round. */
  readonly costNs: number;
}

export async function journalCost(): Promise<JournalCost> {
  const path = '../../packages/dns-proxy/test/journal.bench.ts';
  const program = fileURLToPath(new URL(path, import.meta.url));
  const flags = ['--conditions=@tandem/source', '--disable-warning=ExperimentalWarning'];
  const { stdout } = await run(process.execPath, [...flags, program, '--json'], { timeoutMs });
  return JSON.parse(stdout) as JournalCost;
}
