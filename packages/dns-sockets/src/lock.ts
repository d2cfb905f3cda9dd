// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A lock that one process of the machine holds, and that the kernel takes back when it dies. */

import { closeSync, openSync } from 'node:fs';
import { attempt } from './errors.ts';
import { native } from './native.ts';

export class PathLock implements Disposable {
  #fd: number;

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /**
   * Takes the lock of a file or directory (flock(2)), or null if a process holds it. Where a file system
   * keeps it, what is locked is the inode: of a pin directory, say. 'shared' goes with other shared ones.
   * @throws the error of open(2): ENOENT, EACCES
   */
  static tryTake(path: string, kind: 'exclusive' | 'shared' = 'exclusive'): PathLock | null {
    const fd = openSync(path, 'r');
    let isTaken = false;
    try {
      isTaken = attempt(() => native.tryLockFd(fd, kind === 'shared' ? 1 : 0));
    } finally {
      if (!isTaken) closeSync(fd);
    }
    return isTaken ? new PathLock(fd) : null;
  }

  /**
   * Whether a process holds the lock; two processes that ask at the same moment are not taken for holders.
   * @throws the error of open(2)
   */
  static isHeld(path: string): boolean {
    using free = PathLock.tryTake(path, 'shared');
    return free === null;
  }

  [Symbol.dispose](): void {
    if (this.#fd === -1) return;
    closeSync(this.#fd);
    this.#fd = -1;
  }
}
