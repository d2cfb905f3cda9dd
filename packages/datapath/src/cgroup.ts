// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Where the cgroup v2 hierarchy of the node is mounted. */

import { readFileSync, statfsSync, statSync } from 'node:fs';

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
export function findCgroup2(mountInfo: string = readMountInfo()): string | null {
  const mounts = mountInfo.split('\n').flatMap(cgroup2Mount);
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

/** proc(5): id parent device root point options [fields] - type source options; octal escapes in names. */
function cgroup2Mount(line: string): readonly { root: string; point: string }[] {
  const [head = '', tail = ''] = line.split(' - ');
  if (tail.split(' ')[0] !== 'cgroup2') return [];
  const [, , , root = '', point = ''] = head.split(' ').map(unescape);
  return point === '' ? [] : [{ root, point }];
}

function unescape(text: string): string {
  return text.replaceAll(/\\([0-7]{3})/g, (_, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  );
}

function readMountInfo(): string {
  try {
    return readFileSync('/proc/self/mountinfo', 'utf8');
  } catch {
    return '';
  }
}
