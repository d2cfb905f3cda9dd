// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The most memory that a process had since a moment, as the kernel keeps it (VmHWM): a peak between two looks
 * is not missed. Without the journal's regions, which are memory of the kernel's maps and do not grow.
 */

import { readFileSync, writeFileSync } from 'node:fs';
import { journalKiB } from '../bench/cpu.ts';

/** From now on `peakMiB` is about what comes. */
export function resetPeak(pid: number): void {
  // proc(5): 5 makes VmHWM what VmRSS is now.
  writeFileSync(`/proc/${pid}/clear_refs`, '5');
}

export function peakMiB(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const peak = Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1] ?? 0);
  return (peak - journalKiB(pid)) / 1024;
}
