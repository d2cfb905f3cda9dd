// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Endpoints that ask much, in a map of the kernel with the layout of `query_pace`. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BpfMap, mapType } from '@tandem/bpf-loader-node/map';
import { TD_PACE_LIGHT_BURST, TD_PACE_LIGHT_SHARE, tdPodPace } from './abi.gen.ts';
import { readHeavyEndpoints } from './heavy-endpoints.ts';

const perSecond = 10_000;
/** Time that the burst of the light lane stands for, and one query of it. */
const queryNs = (1e9 / perSecond) * TD_PACE_LIGHT_SHARE;
const burstNs = queryNs * TD_PACE_LIGHT_BURST;
const nowNs = 5e12;

test('those that are beyond the burst, furthest first, of as many as the map holds', () => {
  using paces = BpfMap.create({
    ...{ type: mapType.lruHash, name: 'paces', keySize: 4, valueSize: tdPodPace.size },
    maxEntries: 4096,
  });
  const set = (id: number, spentNs: number): void => {
    const value = new Uint8Array(tdPodPace.size);
    new DataView(value.buffer).setBigUint64(tdPodPace.spent_light, BigInt(spentNs), true);
    paces.update(new Uint8Array(Uint32Array.of(id).buffer), value);
  };
  assert.deepEqual(readHeavyEndpoints(paces, perSecond, nowNs), []);
  for (let id = 100; id < 1700; id++) set(id, nowNs - 1e9);
  set(1, 0);
  set(2, nowNs + burstNs - queryNs);
  set(0xffff_fff3, nowNs + burstNs - queryNs + 1);
  set(4, nowNs + 2 * burstNs);
  assert.deepEqual(readHeavyEndpoints(paces, perSecond, nowNs), [4, 0xffff_fff3]);
  assert.deepEqual(readHeavyEndpoints(paces, perSecond, nowNs + 2 * burstNs), []);
  assert.deepEqual(readHeavyEndpoints(paces, 0, nowNs), []);
});
