// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The text of one file of a directory, bounded: a pipe or a device under a manifest's name is not waited for. */

import { closeSync, constants, fstatSync, openSync, readFileSync, statSync } from 'node:fs';
import { fileBytesMax } from '../limits.ts';
import { decodeManifest } from './manifest.ts';

/** Differs when the file was written or replaced. @throws when there is none */
export function stampOf(path: string): string {
  const { mtimeMs, size, ino } = statSync(path);
  return `${mtimeMs} ${size} ${ino}`;
}

/** @throws Error with the reason when it cannot be read */
export function readManifest(path: string): string {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile())
      throw new Error('is no file that can be read: replace it by one, or remove it');
    const { size } = stat;
    if (size > fileBytesMax) throw new Error(`has ${size} bytes, the limit is ${fileBytesMax}`);
    return decodeManifest(readFileSync(fd));
  } finally {
    closeSync(fd);
  }
}
