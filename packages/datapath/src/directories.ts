// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Directories on file systems of the node, made with the mode and owner that they need whatever the umask is.
 * Step by step: where a parent takes no entry (a mount point on which nothing is mounted, in sysfs or procfs),
 * mkdir(2) says ENOENT, and Node.js' recursive mkdir then tries for ever.
 */

import { chmodSync, chownSync, existsSync, mkdirSync, statfsSync, statSync } from 'node:fs';
import { dirname } from 'node:path';

/** statfs(2) f_type of a bpffs. Source: include/uapi/linux/magic.h. */
const bpffsMagic = 0xcafe4a11;
const sharedMode = 0o750;
const usualBpffs = '/sys/fs/bpf';

/** Makes the directory and those above it that are missing, with this mode; one that exists stays. @throws */
export function makeDirectory(path: string, mode = 0o755): void {
  if (existsSync(path)) return;
  makeDirectory(dirname(path), mode);
  try {
    mkdirSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return;
    throw error;
  }
  chmodSync(path, mode);
}

/** Makes the directory if it is missing; its owner may do everything in it and its group may read it. @throws */
export function shareDirectory(path: string, uid: number, gid: number): void {
  makeDirectory(path, sharedMode);
  chownSync(path, uid, gid);
  const { mode } = statSync(path);
  if ((mode & sharedMode) !== sharedMode) chmodSync(path, (mode & 0o7777) | sharedMode);
}

/** Whether the path, or the nearest directory above it that exists, is in a bpffs. */
export function isInBpffs(path: string): boolean {
  for (let at = path; ; at = dirname(at)) {
    try {
      return statfsSync(at).type === bpffsMagic;
    } catch {
      if (at === dirname(at)) return false;
    }
  }
}

/** The command that gives `bpffsDir` a bpffs. */
export function bpffsMountCommand(bpffsDir: string): string {
  const isUsual = bpffsDir === usualBpffs || bpffsDir.startsWith(`${usualBpffs}/`);
  return isUsual
    ? `mount -t bpf bpf ${usualBpffs}`
    : `mkdir -p ${bpffsDir} && mount -t bpf bpf ${bpffsDir}`;
}
