// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import type { ControllerDatapath } from '@tandem/agent/policy/controller';
import type { BpfMap } from '@tandem/bpf-loader-node/map';
import { AgentTable } from '@tandem/datapath/agent-table';
import type { EntryMap } from './entry-map.ts';
import type { MapName } from './initial-maps.ts';

/** The agent's maps, as one of its lives has them open; what it has written it remembers. */
export function simDatapath(
  maps: ReadonlyMap<MapName, EntryMap>,
  groupMemory: ArrayBuffer,
): ControllerDatapath {
  const tables = new Map(
    [...maps].map(([name, map]) => [name, new AgentTable(map as unknown as BpfMap, null)]),
  );
  const others: Readonly<Record<string, unknown>> = {
    group: { mmap: () => groupMemory },
    // Shares are the simulated kernel's own (fqdn-map.ts).
    learned_order: { lookup: () => null },
  };
  return {
    map: (name: string) => others[name] ?? maps.get(name as MapName),
    table: (name: string) => tables.get(name as MapName),
    program: () => ({ runSyscall: () => 0 }),
    ensureJudging: () => undefined,
  } as unknown as ControllerDatapath;
}
