// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Whether a process starts programs, from what the kernel counts of its children. */

import { readFileSync } from 'node:fs';

/**
 * Page faults of the children that a process has waited for (proc(5), cminflt). No program runs without one:
 * while this stays the same, none was started and ended.
 */
export function childFaults(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[8]);
}
