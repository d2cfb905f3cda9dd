// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The text of one file of a directory, bounded: a pipe or a device under a manifest's name is not waited for. */

import { closeSync, constants, fstatSync, openSync, readFileSync, statSync } from 'node:fs';
import { hasWriter } from '@tandem/dns-sockets/file-writers';
import { fileBytesMax } from '../limits.ts';
import { decodeManifest } from './manifest.ts';

/** Differs when the file was written or replaced. @throws when there is none */
export function stampOf(path: string): string {
  const { mtimeMs, size, ino } = statSync(path);
  return `${mtimeMs} ${size} ${ino}`;
}

/** Somebody has the file open for writing, so that it may be half of what it will be. */
export class UnfinishedFileError extends Error {
  constructor() {
    super('is open for writing: it is read when it has been closed');
  }
}

/**
 * The text of a file that nobody is writing: `kubectl get -o yaml > FILE` empties it first and fills it seconds later, and half a
 * policy may be a valid one.
 * @throws UnfinishedFileError; Error with the reason when it cannot be read
 */
export function readFinished(path: string): string {
  return read(path, (fd) => {
    if (hasWriter(fd)) throw new UnfinishedFileError();
  });
}

/** @throws Error with the reason when it cannot be read */
export function readManifest(path: string): string {
  return read(path, () => undefined);
}

/** `check`: is called before and after the file is read. */
function read(path: string, check: (fd: number) => void): string {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile())
      throw new Error('is no file that can be read: replace it by one, or remove it');
    const { size } = stat;
    if (size > fileBytesMax) throw new Error(`has ${size} bytes, the limit is ${fileBytesMax}`);
    check(fd);
    const bytes = readFileSync(fd);
    check(fd);
    return decodeManifest(bytes);
  } finally {
    closeSync(fd);
  }
}
