// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Which version's pins a process works with. An agent takes over what the agent before it wrote, of its
 * own version or of another, or refuses and leaves everything as it is; a member follows the agent.
 */

import { existsSync, readdirSync } from 'node:fs';
import { BpfMap } from '@tandem/bpf-loader-node/map';
import type { ErrorCode } from '@tandem/core/codes/errors';
import { TD_ABI_VERSION } from './abi.gen.ts';
import { NodeGroup } from './group.ts';
import { type Migration, migrationBetween } from './migrations.ts';
import {
  agentMaps,
  laterMaps,
  laterPrograms,
  type MapName,
  pinPaths,
  programNames,
  sharedMaps,
} from './paths.ts';

/** The pins are of a version that this program can't take over. Nothing was changed. */
export class SchemaError extends Error {
  readonly code: Extract<ErrorCode, 'TANDEM_DATAPATH_VERSION'> = 'TANDEM_DATAPATH_VERSION';
}

export interface PinPlan {
  /** ABI version of the maps in force; 0: nothing is pinned. */
  readonly writer: number;
  /** From `writer` to this version; null: the maps of this version are used as they are. */
  readonly migration: Migration | null;
  /** The oldest version whose maps are to be kept in step, at least for a rollback. */
  readonly kept: number;
}

/** The pinned `group`, or null when it is not pinned. */
function readGroup(root: string): NodeGroup | null {
  const path = pinPaths(root).map('group');
  if (!existsSync(path)) return null;
  using group = BpfMap.openPinned(path, { isReadOnly: true });
  const value = group.lookup(new Uint8Array(4));
  return value === null ? null : NodeGroup.copyOf(value);
}

function hasMaps(root: string, abi: number): boolean {
  const paths = pinPaths(root, abi);
  return agentMaps.every((name) => isLater(name) || existsSync(paths.map(name)));
}

const isLater = (name: MapName): boolean => (laterMaps as readonly string[]).includes(name);

/**
 * Plan of an agent of this version for the existing pins. @throws SchemaError when they are of a version that it does not
 * know
 */
export function planPins(root: string): PinPlan {
  const own = TD_ABI_VERSION;
  const versions = readGroup(root);
  // 0: by an agent of before there was this field.
  const writer = versions === null || versions.agentAbi === 0 ? 1 : versions.agentAbi;
  if (versions === null || !hasMaps(root, writer)) {
    return { writer: 0, migration: null, kept: own };
  }
  if (writer === own) {
    const { keptAbi } = versions;
    const isKept =
      keptAbi < own && migrationBetween(own, keptAbi) !== null && hasMaps(root, keptAbi);
    return { writer, migration: null, kept: isKept ? keptAbi : own };
  }
  if (writer > own) {
    // The newer agent wrote our maps beside its own: they are as it left them.
    if (versions.keptAbi <= own && versions.keptAbi > 0 && hasMaps(root, own)) {
      return { writer, migration: null, kept: own };
    }
    throw new SchemaError(
      `${root} is in the hands of an agent of ABI version ${writer}, this one is ${own} and ${writer} does not keep its maps: ` +
        'start that version again, or go back version by version',
    );
  }
  const migration = migrationBetween(writer, own);
  if (migration === null) {
    throw new SchemaError(
      `${root} is of ABI version ${writer}, this agent is ${own} and cannot migrate from it: upgrade version by version`,
    );
  }
  return { writer, migration, kept: writer };
}

/** ABI version of the maps and programs that a member uses: its own, or that of an older agent that does not know ours. */
export function memberAbi(root: string): number {
  const agentAbi = readGroup(root)?.agentAbi ?? 0;
  return agentAbi === 0 ? TD_ABI_VERSION : Math.min(agentAbi, TD_ABI_VERSION);
}

/**
 * Whether all shared maps that this version needs are pinned: not by an agent of before one was replaced.
 */
export function hasSharedMaps(root: string): boolean {
  const paths = pinPaths(root);
  return sharedMaps.every((name) => isLater(name) || existsSync(paths.map(name)));
}

/** Whether all that a member needs is pinned, of the version that it would use. */
export function isLoaded(root: string): boolean {
  if (!hasSharedMaps(root)) return false;
  const abi = memberAbi(root);
  const programs = pinPaths(root, abi);
  return (
    hasMaps(root, abi) &&
    programNames.every((name) => laterPrograms.includes(name) || existsSync(programs.program(name)))
  );
}

/** Versions that have a directory. */
export function pinnedVersions(root: string): number[] {
  return readdirSync(root).flatMap((name) => {
    const version = /^v(\d+)$/.exec(name)?.[1];
    return version === undefined ? [] : [Number(version)];
  });
}
