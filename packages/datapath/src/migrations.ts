// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * How entries of the agent's maps go from one ABI version to another. An agent knows the way from and to
 * the version before its own: by the first it takes over, by the second it keeps the old maps in step, so
 * that members of that version serve on and its agent can come back (ADR 7).
 *
 * A change of abi.h that touches an agent's map raises TD_ABI_VERSION and adds both directions here.
 */

import { TD_VERDICT_DECIDED, tdPolicy, tdVerdict } from './abi.gen.ts';
import type { Entry } from './encode.ts';
import type { AgentMapName } from './paths.ts';

/** One entry in the other version's layout; null: it has no meaning there. */
export type Convert = (entry: Entry) => Entry | null;

export interface Migration {
  readonly from: number;
  readonly to: number;
  /**
   * The maps whose layout or meaning differs; 'fresh': begins empty (counters, events). Both directions
   * name the same maps. Every other map is one map, pinned in both directories.
   */
  readonly maps: Readonly<Partial<Record<AgentMapName, Convert | 'fresh'>>>;
}

const same: Convert = (entry) => entry;

/**
 * Version 1 knows no TD_VERDICT_DECIDED: it joins every entry of a class with that for every peer, by which a deny beats an allow.
 * "Nothing" that includes the rules for every peer becomes a deny, so that none of them allows what it was to take from them.
 */
const undecided: Convert = ({ key, value }) => {
  const verdict = value[tdPolicy.verdict] ?? 0;
  if ((verdict & TD_VERDICT_DECIDED) === 0) return { key, value };
  const own = verdict & ~TD_VERDICT_DECIDED;
  const changed = value.slice();
  changed[tdPolicy.verdict] = own === tdVerdict.NONE ? tdVerdict.DENY : own;
  return { key, value: changed };
};

/** Version 1 is the first. In 2 an entry of a class may include what the rules for every peer say. */
export const migrations: readonly Migration[] = [
  { from: 1, to: 2, maps: { policy: same } },
  { from: 2, to: 1, maps: { policy: undecided } },
];

export function migrationBetween(from: number, to: number): Migration | null {
  return migrations.find((each) => each.from === from && each.to === to) ?? null;
}
