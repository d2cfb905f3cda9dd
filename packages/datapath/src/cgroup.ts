// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Where the cgroup v2 hierarchy of the node is mounted. */

import { statfsSync, statSync } from 'node:fs';
import { mountsOf } from './mounts.ts';

/** statfs(2) f_type. Source: include/uapi/linux/magic.h. */
const cgroup2Magic = 0x63677270;
/** The inode of a hierarchy's root in kernfs; a cgroup below has another. */
const rootInode = 1;

/** First where distributions mount it: alone, and beside cgroup v1. */
const usual: readonly string[] = ['/sys/fs/cgroup', '/sys/fs/cgroup/unified'];

/**
 * The mount point of cgroup v2, or null when there is none. A mount of the whole hierarchy goes before
 * one of a part, such as a container's own cgroup.
 */
export function findCgroup2(mountInfo?: string): string | null {
  const mounts = mountsOf('cgroup2', mountInfo);
  const order = (path: string): number => {
    const index = usual.indexOf(path);
    return index === -1 ? usual.length : index;
  };
  const sorted = mounts.toSorted(
    (a, b) => Number(b.root === '/') - Number(a.root === '/') || order(a.point) - order(b.point),
  );
  return sorted[0]?.point ?? null;
}

/** 'root': the node's whole hierarchy; 'part': a cgroup below it; null: no cgroup v2. */
export function cgroup2At(path: string): 'root' | 'part' | null {
  try {
    if (statfsSync(path).type !== cgroup2Magic) return null;
    return statSync(path).ino === rootInode ? 'root' : 'part';
  } catch {
    return null;
  }
}
