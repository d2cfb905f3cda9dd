// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** ns per packet of each BPF program, from their own benchmark in a process of its own. */

import { fileURLToPath } from 'node:url';
import { run } from '@tandem/testing/process';

const timeoutMs = 180_000;

export interface PacketCost {
  readonly subject: string;
  readonly minNs: number;
  readonly medianNs: number;
}

export async function packetCosts(): Promise<readonly PacketCost[]> {
  const program = fileURLToPath(new URL('../../bpf/tests/programs.bench.ts', import.meta.url));
  const flags = ['--conditions=@tandem/source', '--disable-warning=ExperimentalWarning'];
  const { stdout } = await run(process.execPath, [...flags, program, '--json'], { timeoutMs });
  return JSON.parse(stdout) as PacketCost[];
}
