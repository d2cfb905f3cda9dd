// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The kernel's per-CPU counters. */

import type { BpfMap } from '@tandem/bpf-loader-node/map';
import { tdCounter } from './abi.gen.ts';
import type { Datapath } from './datapath.ts';

/** One value of a per-CPU array, summed over CPUs. */
export function readPerCpu(map: Pick<BpfMap, 'lookupInto' | 'valueBytes'>, index: number): number {
  const key = new Uint8Array(4);
  new DataView(key.buffer).setUint32(0, index, true);
  const value = new Uint8Array(map.valueBytes);
  if (!map.lookupInto(key, value)) return 0;
  return Number(new BigUint64Array(value.buffer).reduce((sum, cell) => sum + cell, 0n));
}

/** One value, summed over CPUs. `index`: of tdCounter. */
export function readCounter(datapath: Datapath, index: number): number {
  return readPerCpu(datapath.map('counters'), index);
}

/** Values by lower-case name, summed over CPUs. */
export function readCounters(datapath: Datapath): Record<string, number> {
  const map = datapath.map('counters');
  const key = new Uint8Array(4);
  const keyView = new DataView(key.buffer);
  const value = new Uint8Array(map.valueBytes);
  const cells = new BigUint64Array(value.buffer);
  const counters: Record<string, number> = {};
  for (const [name, index] of Object.entries(tdCounter)) {
    keyView.setUint32(0, index, true);
    if (!map.lookupInto(key, value)) continue;
    let sum = 0n;
    for (const cell of cells) sum += cell;
    counters[name.toLowerCase()] = Number(sum);
  }
  return counters;
}
