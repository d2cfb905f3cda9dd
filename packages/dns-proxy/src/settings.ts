// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The settings that a member must have in common with the programs in force. Its sockets would get none of
 * the queries, or lose them, with another port, bit of the mark or owner.
 */

import { markCandidates } from '@tandem/datapath/config';
import type { GroupSettings } from '@tandem/datapath/group';
import { type Degradation, degradation } from './admin/degradation.ts';

/** As a process was configured. */
export interface MemberSettings {
  readonly port: number;
  /** 'auto': the agent's choice. */
  readonly mark: number | 'auto';
  readonly ownerUid: number;
}

const hex = (value: number): string => `0x${value.toString(16)}`;

/** The mark that `wanted` comes to. `inForce`: null where the programs do not say. */
export function markOf(wanted: MemberSettings, inForce: GroupSettings | null): number {
  if (wanted.mark !== 'auto') return wanted.mark;
  return inForce?.mark ?? markCandidates[0];
}

/** The difference of `wanted` from the settings in force, in words; empty: not at all, or the programs do not say. */
export function settingsProblem(wanted: MemberSettings, inForce: GroupSettings | null): string {
  if (inForce === null) return '';
  const differences: string[] = [];
  const add = (option: string, own: string, other: string): void => {
    if (own !== other)
      differences.push(`${option} is ${own} here and ${other} in the loaded programs`);
  };
  add('port', String(wanted.port), String(inForce.port));
  add('mark', hex(markOf(wanted, inForce)), hex(inForce.mark));
  add('proxyUid', String(wanted.ownerUid), String(inForce.ownerUid));
  return differences.join('; ');
}

export function settingsDegradations(
  wanted: MemberSettings,
  inForce: GroupSettings | null,
): readonly Degradation[] {
  const problem = settingsProblem(wanted, inForce);
  if (problem === '') return [];
  return [
    degradation('settings-differ', {
      message: `this process serves no DNS, because its sockets would lose queries: ${problem}`,
    }),
  ];
}
