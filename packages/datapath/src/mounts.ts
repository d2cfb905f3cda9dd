// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The mounts that this process sees, by type of file system. Source: proc(5), mountinfo. */

import { readFileSync } from 'node:fs';

export interface Mount {
  /** Directory within the file system that is mounted. */
  readonly root: string;
  readonly point: string;
}

/** In the order in which they were mounted; empty where /proc cannot be read. */
export function mountsOf(type: string, mountInfo: string = readMountInfo()): readonly Mount[] {
  return mountInfo.split('\n').flatMap((line) => mountOf(type, line));
}

/** id parent device root point options [fields] - type source options; octal escapes in names. */
function mountOf(type: string, line: string): readonly Mount[] {
  const [head = '', tail = ''] = line.split(' - ');
  if (tail.split(' ')[0] !== type) return [];
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
