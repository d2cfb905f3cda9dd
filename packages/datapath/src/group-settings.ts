// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Settings of the pinned `group`, for a process that does not serve with it. */

import { existsSync } from 'node:fs';
import { BpfMap } from '@tandem/bpf-loader-node/map';
import { type GroupSettings, type MemberStateName, memberStateName, NodeGroup } from './group.ts';
import type { MemberIndex } from './member.ts';
import { pinPaths } from './paths.ts';

/** See {@link NodeGroup.settings}; null also where nothing is pinned. @throws BpfError */
export function readPinnedSettings(root: string): GroupSettings | null {
  return readPinnedGroup(root)?.settings ?? null;
}

/** A member as it is now; null where nothing is pinned. @throws BpfError */
export function readPinnedMember(
  root: string,
  index: MemberIndex,
): {
  readonly state: MemberStateName;
  /** CLOCK_BOOTTIME of its last joining, CLOCK_MONOTONIC of its last beat, ns. */
  readonly epochNs: number;
  readonly beatNs: number;
} | null {
  const group = readPinnedGroup(root);
  if (group === null) return null;
  return {
    state: memberStateName(group.stateOf(index)),
    epochNs: group.epochOf(index),
    beatNs: group.beatNsOf(index),
  };
}

function readPinnedGroup(root: string): NodeGroup | null {
  const path = pinPaths(root).map('group');
  if (!existsSync(path)) return null;
  using group = BpfMap.openPinned(path, { isReadOnly: true });
  const value = group.lookup(new Uint8Array(4));
  return value === null ? null : NodeGroup.copyOf(value);
}

/** Whether another `group` than this one is pinned: the pins were removed, and an agent made new ones. */
export function isReplaced(root: string, group: BpfMap): boolean {
  try {
    using pinned = BpfMap.openPinned(pinPaths(root).map('group'));
    return pinned.id !== group.id;
  } catch {
    return false; // nothing is pinned, or not yet for us
  }
}
