// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Which of the pinned maps a load goes on with: its own version's, another's to be converted, or none. */

import { existsSync } from 'node:fs';
import { BpfMap } from '@tandem/bpf-loader-node/map';
import type { BpfObject } from '@tandem/bpf-loader-node/object';
import { TD_ABI_VERSION, tdCounter } from './abi.gen.ts';
import { MirroredMap } from './mirrored-map.ts';
import { type AgentMapName, agentMaps, type MapName, pinPaths, sharedMaps } from './paths.ts';
import type { PinPlan } from './schema.ts';

export const allMaps: readonly MapName[] = [...sharedMaps, ...agentMaps];

export function isAgentMap(name: MapName): name is AgentMapName {
  return (agentMaps as readonly string[]).includes(name);
}

/** Counters that were added need more room: all of them begin at 0, as after a reboot, whichever version pinned them. */
export function outgrown(root: string, plan: PinPlan): ReadonlySet<MapName> {
  const pin = presentPin(root, 'counters', plan);
  if (pin === null || entriesOf(pin) === Object.keys(tdCounter).length) return new Set();
  return new Set(['counters']);
}

/** Gives an object the pinned maps that it is to go on with. */
export function reusePins(
  object: BpfObject,
  root: string,
  plan: PinPlan,
  isFresh: ReadonlySet<MapName>,
): void {
  for (const name of allMaps) {
    const pin = isFresh.has(name) ? null : presentPin(root, name, plan);
    if (pin === null) continue;
    // One that this version would make larger stays as it is until the node is booted.
    if (name === 'classes') object.setMaxEntries(name, entriesOf(pin));
    object.reusePin(name, pin);
  }
}

function entriesOf(path: string): number {
  using present = BpfMap.openPinned(path, { isReadOnly: true });
  return present.maxEntries;
}

/** The pin that an object's map is to be; null: a new map. */
function presentPin(root: string, name: MapName, { writer, migration }: PinPlan): string | null {
  const isOther = migration !== null && isAgentMap(name);
  if (isOther && migration.maps[name] !== undefined) return null;
  const path = pinPaths(root, isOther ? writer : TD_ABI_VERSION).map(name);
  return existsSync(path) ? path : null;
}

/** Fills the new maps with the policy in force, before any program reads them. */
export function fillMigrated(
  object: BpfObject,
  root: string,
  { writer, migration }: PinPlan,
): void {
  for (const name of agentMaps) {
    const convert = migration?.maps[name];
    if (typeof convert !== 'function') continue;
    using from = BpfMap.openPinned(pinPaths(root, writer).map(name), { isReadOnly: true });
    const entries = [...from.entries()].map(([key, value]) => convert({ key, value }));
    new MirroredMap(object.map(name)).add(entries.filter((entry) => entry !== null));
  }
}
