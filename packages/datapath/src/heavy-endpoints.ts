// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Endpoints that ask much now, from the meters that from_pod keeps in `query_pace` (bpf/include/tandem/lane.h). */

import { BatchCursor, type BpfMap } from '@tandem/bpf-loader-node/map';
import { TD_PACE_LIGHT_BURST, TD_PACE_LIGHT_SHARE, tdPodPace } from './abi.gen.ts';

const batchEntries = 1024;
const nsPerSecond = 1e9;

/**
 * Ids of endpoints whose next datagram would be in the heavy lane, those that are furthest beyond the light rate first.
 * `datagramsPerSecond`: what the programs were loaded with, 0 for no limit and no lanes; `nowNs`: CLOCK_MONOTONIC.
 */
export function readHeavyEndpoints(
  paces: Pick<BpfMap, 'lookupBatch' | 'keySize' | 'valueBytes' | 'maxEntries'>,
  datagramsPerSecond: number,
  nowNs: number,
): number[] {
  if (datagramsPerSecond === 0) return [];
  const cost = Math.floor(nsPerSecond / datagramsPerSecond) * TD_PACE_LIGHT_SHARE;
  const burst = cost * TD_PACE_LIGHT_BURST;
  const keys = new Uint8Array(batchEntries * paces.keySize);
  const values = new Uint8Array(batchEntries * paces.valueBytes);
  const [keyView, valueView] = [new DataView(keys.buffer), new DataView(values.buffer)];
  const cursor = new BatchCursor(paces.keySize);
  const aheadOf = new Map<number, number>();
  // Bounded even if entries come and go under the walk.
  for (let read = 0; !cursor.isDone && read <= paces.maxEntries; ) {
    const count = paces.lookupBatch(cursor, keys, values, batchEntries);
    for (let i = 0; i < count; i++) {
      const spentNs = valueView.getBigUint64(i * paces.valueBytes + tdPodPace.spent_light, true);
      const aheadNs = Number(spentNs) - nowNs;
      if (aheadNs + cost > burst) aheadOf.set(keyView.getUint32(i * paces.keySize, true), aheadNs);
    }
    read += count;
  }
  return [...aheadOf].toSorted(([, left], [, right]) => right - left).map(([id]) => id);
}
