// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The directories in which both processes leave sockets and state. They make them, where there is a place. */

import { accessSync, constants, existsSync, statfsSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { type Check, type CheckResult, fail, pass } from './check.ts';

export const checkDirectories: Check = ({ settings: { runDir, stateDir } }) => [
  checkDirectory(
    'run-directory',
    runDir,
    'the processes have no sockets and cannot connect to each other',
  ),
  checkDirectory('state-directory', stateDir, 'policy is not kept for a process that starts alone'),
];

/** `loss`: what follows when nothing can be written there. */
function checkDirectory(
  check: 'run-directory' | 'state-directory',
  path: string,
  loss: string,
): CheckResult {
  const place = nearest(path);
  const failed = (why: string, fix: string): CheckResult =>
    fail(check, `${place} ${why}: ${loss}`, fix);
  if (!statSync(place).isDirectory()) {
    // A file above it may be anything.
    const fix = path === place ? `rm ${place}` : 'give another directory to both processes';
    return failed('is no directory', fix);
  }
  try {
    accessSync(place, constants.W_OK | constants.X_OK);
  } catch (error) {
    const isReadOnly = error instanceof Error && 'code' in error && error.code === 'EROFS';
    return isReadOnly
      ? failed(
          'is on a file system that is read-only',
          `remount it writable (mount -o remount,rw), or give another directory to both processes`,
        )
      : failed('cannot be written to', 'run it as root');
  }
  const { blocks, bavail, files, ffree } = statfsSync(place);
  // Some file systems have no limit, and say 0 of 0.
  if ((blocks > 0 && bavail === 0) || (files > 0 && ffree === 0)) {
    return failed('is on a file system that is full', 'make room there');
  }
  return pass(check, path === place ? `${path} can be written to` : `${path} can be made`);
}

/** The path itself, or its nearest existing directory. */
function nearest(path: string): string {
  let place = path;
  while (!existsSync(place) && place !== dirname(place)) place = dirname(place);
  return place;
}
