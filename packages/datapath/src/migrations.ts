// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * How entries of the agent's maps go from one ABI version to another. An agent knows the way from and to
 * the version before its own: by the first it takes over, by the second it keeps the old maps in step, so
 * that members of that version serve on and its agent can come back (ADR 7).
 *
 * A change of abi.h that touches an agent's map raises TD_ABI_VERSION and adds both directions here.
 */

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

/** Version 1 is the first. */
export const migrations: readonly Migration[] = [];

export function migrationBetween(from: number, to: number): Migration | null {
  return migrations.find((each) => each.from === from && each.to === to) ?? null;
}
