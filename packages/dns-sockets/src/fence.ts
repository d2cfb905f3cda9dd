// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The end of a process by another one that cannot send it signals, because it is in another PID namespace: a
 * named pipe that kills the process which armed it when something is written into it. The kernel does it, so
 * the process need not run for that.
 */

import { closeSync, constants, fstatSync, openSync, writeSync } from 'node:fs';
import { attempt } from './errors.ts';
import { native } from './native.ts';

/**
 * Makes the pipe, by which this process can be killed until the descriptor is closed (`closeFd`). Process 1 of a
 * PID namespace ignores it, as it ignores every SIGKILL from within.
 * @throws DnsSocketError: EEXIST, ENOENT, EACCES, EPERM (a file system without pipes)
 */
export function armFence(path: string): number {
  return attempt(() => native.armFence(path));
}

/**
 * Kills the process that armed the pipe. False: no process has armed it, or it cannot be opened. That the process is gone shows in
 * what it held: a lock (`PathLock`).
 */
export function fireFence(path: string): boolean {
  let fd: number;
  try {
    fd = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW);
  } catch {
    return false; // ENOENT, ENXIO: it ended by itself; EACCES: another user's
  }
  try {
    return fstatSync(fd).isFIFO() && writeSync(fd, '!') === 1;
  } catch {
    return false; // EPIPE: it ended meanwhile
  } finally {
    closeSync(fd);
  }
}
