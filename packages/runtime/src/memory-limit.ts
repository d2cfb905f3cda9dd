// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The memory that this process's cgroup may take, as proc(5) and cgroups(7) say where it is. */

import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

export interface MemoryLimit {
  readonly bytes: number;
  /** The file that says so. */
  readonly path: string;
}

/** Where a line of /proc/self/cgroup with the memory of the process leads, by version of cgroups. */
const places = [
  {
    line: /^0::(\/.*)$/m,
    mounts: ['/sys/fs/cgroup', '/sys/fs/cgroup/unified'],
    file: 'memory.max',
  },
  {
    line: /^\d+:(?:[^:]*,)?memory(?:,[^:]*)?:(\/.*)$/m,
    mounts: ['/sys/fs/cgroup/memory'],
    file: 'memory.limit_in_bytes',
  },
] as const;

/** More than any machine has: what version 1 says for no limit. */
const unlimitedBytes = 2 ** 60;

/** The lowest limit of the process's cgroup and those above it; null: there is none, or it is not to be seen from here. */
export function memoryLimit(): MemoryLimit | null {
  const own = read('/proc/self/cgroup') ?? '';
  const limits = places.flatMap(({ line, mounts, file }) => {
    const cgroup = line.exec(own)?.[1];
    if (cgroup === undefined) return [];
    return mounts.flatMap((mount) => ancestors(cgroup).map((each) => join(mount, each, file)));
  });
  return limits.reduce<MemoryLimit | null>((lowest, path) => {
    const bytes = Number(read(path) ?? 'max');
    if (!Number.isSafeInteger(bytes) || bytes >= unlimitedBytes) return lowest;
    return lowest === null || bytes < lowest.bytes ? { bytes, path } : lowest;
  }, null);
}

/** The cgroup, and each above it up to the root: in a container that is the container's own. */
function ancestors(cgroup: string): readonly string[] {
  return cgroup === '/' ? ['/'] : [cgroup, ...ancestors(dirname(cgroup))];
}

function read(path: string): string | null {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return null;
  }
}
