// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** One command at a time changes a cluster. The lock of a command that was killed counts for nothing. */

import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { bedDirectory, type Layout } from './layout.ts';
import { startTimeOf } from './processes.ts';

/** @throws Error when another command holds it. */
export async function withLock<T>(layout: Layout, work: () => Promise<T>): Promise<T> {
  mkdirSync(bedDirectory, { recursive: true });
  const file = join(bedDirectory, `${layout.name}.lock`);
  const mine = `${process.pid} ${startTimeOf(process.pid)}`;
  try {
    writeFileSync(file, mine, { flag: 'wx' });
  } catch {
    const [pid = '0', startTime] = readFileSync(file, 'utf8').split(' ');
    if (startTimeOf(Number(pid)) === startTime) {
      throw new Error(`process ${pid} is at work on cluster ${layout.name}`);
    }
    writeFileSync(file, mine);
  }
  try {
    return await work();
  } finally {
    rmSync(file, { force: true });
  }
}
