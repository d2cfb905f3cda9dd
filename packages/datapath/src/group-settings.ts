// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** What the pinned `group` says to a process that does not serve with it. */

import { existsSync } from 'node:fs';
import { BpfMap } from '@tandem/bpf-loader-node/map';
import { type GroupSettings, NodeGroup } from './group.ts';
import { pinPaths } from './paths.ts';

/** See {@link NodeGroup.settings}; null also where nothing is pinned. @throws BpfError */
export function readPinnedSettings(root: string): GroupSettings | null {
  const path = pinPaths(root).map('group');
  if (!existsSync(path)) return null;
  using group = BpfMap.openPinned(path, { isReadOnly: true });
  const value = group.lookup(new Uint8Array(4));
  return value === null ? null : NodeGroup.copyOf(value).settings;
}

/** Whether another `group` than this one is pinned: somebody removed the pins, and an agent made new ones. */
export function isReplaced(root: string, group: BpfMap): boolean {
  try {
    using pinned = BpfMap.openPinned(pinPaths(root).map('group'));
    return pinned.id !== group.id;
  } catch {
    return false; // nothing is pinned, or not yet for us
  }
}
