// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Entries into a table, as many as the kernel takes. Which ones it refuses is found by halving: one bad
 * entry, or a full map, keeps no other entry out.
 */

import { BpfError } from '@tandem/bpf-loader-node/errors';
import type { AgentTable } from '@tandem/datapath/agent-table';
import type { Entry } from '@tandem/datapath/encode';
import { addAttemptsMax } from '../limits.ts';

export interface Refusal {
  readonly entries: readonly Entry[];
  /** Reason for the first of them. */
  readonly reason: string;
}

/** Null: the map has all of them. After `addAttemptsMax` calls the other entries count as refused. */
export function addWhatFits(
  table: Pick<AgentTable, 'add'>,
  desired: readonly Entry[],
): Refusal | null {
  const refused: Entry[] = [];
  let reason = '';
  let attempts = 0;
  const add = (entries: readonly Entry[]): void => {
    if (entries.length === 0) return;
    if (attempts++ >= addAttemptsMax) {
      refused.push(...entries);
      return;
    }
    try {
      table.add(entries);
    } catch (error) {
      if (!(error instanceof BpfError)) throw error;
      reason ||= error.message;
      if (entries.length === 1) refused.push(...entries);
      else {
        const half = entries.length >> 1;
        add(entries.slice(0, half));
        add(entries.slice(half));
      }
    }
  };
  add(desired);
  return refused.length === 0 ? null : { entries: refused, reason };
}
