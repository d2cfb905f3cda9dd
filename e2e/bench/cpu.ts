// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Cost of a process: CPU time of all its threads, and its memory. */

import { readdirSync, readFileSync } from 'node:fs';
import { regionBytes } from '@tandem/dns-proxy/journal/region';

/** On-CPU time of all threads so far, microseconds (schedstat: exact, not in ticks). */
export function cpuUs(pid: number): number {
  let ns = 0;
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    try {
      ns += Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ')[0]);
    } catch {
      // The thread ended between the listing and the read.
    }
  }
  return ns / 1000;
}

/** Resident memory now, MiB, without the journal's regions that the process has mapped. */
export function rssMiB(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const total = Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1] ?? 0);
  return (total - journalKiB(pid)) / 1024;
}

/** Resident part of mappings of BPF maps that are as long as a member's region. */
export function journalKiB(pid: number): number {
  let sum = 0;
  let isRegion = false;
  for (const line of readFileSync(`/proc/${pid}/smaps`, 'utf8').split('\n')) {
    const mapping = /^([0-9a-f]+)-([0-9a-f]+) .*?(\S*)$/.exec(line);
    if (mapping !== null) {
      const [, from = '', to = '', name] = mapping;
      const length = Number.parseInt(to, 16) - Number.parseInt(from, 16);
      isRegion = name === 'anon_inode:bpf-map' && length === regionBytes;
    }
    const resident = /^Rss:\s+(\d+) kB/.exec(line);
    if (isRegion && resident !== null) sum += Number(resident[1]);
  }
  return sum;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
