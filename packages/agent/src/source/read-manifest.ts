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

/** A process has the file open for writing, so its content may be incomplete. */
export class UnfinishedFileError extends Error {
  constructor() {
    super('is open for writing: it is read when it has been closed');
  }
}

/**
 * Reads a file that no process is writing. `kubectl get -o yaml > FILE` truncates the file first and writes seconds later, and a
 * truncated manifest can be valid.
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
