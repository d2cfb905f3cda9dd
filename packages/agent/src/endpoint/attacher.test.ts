// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { tcxPinsMax } from '@tandem/bpf-loader-node/link-pins';
import type { Datapath, PodVeth } from '@tandem/datapath/datapath';
import type { NetworkView } from '@tandem/netlink/network-view';
import { type AttachedEndpoint, Attacher, type AttachPlan } from './attacher.ts';
import type { DeviceOptions } from './node-devices.ts';

const planOf = (count: number): AttachPlan => ({
  entries: [],
  diagnostics: [],
  endpoints: Array.from({ length: count }, (_, i) => {
    const found = {
      vethIfindex: 10 + i,
      name: `veth${i}`,
      isBridged: false,
      mac: new Uint8Array(6),
    };
    return { interface: found } as unknown as AttachedEndpoint;
  }),
});

test('an agent that stops while it attaches attaches no more, and says that not all is attached', async () => {
  const asked: number[] = [];
  const first = Promise.withResolvers<ReadonlyMap<number, string>>();
  const datapath = {
    map: () => ({ entries: () => [] }),
    attachEndpoints: (veths: readonly PodVeth[]) => {
      asked.push(veths.length);
      return first.promise;
    },
    detachEndpoints: () => assert.fail('what was not reached would be detached'),
  } as unknown as Datapath;
  const attacher = new Attacher(datapath, {} as NetworkView, {} as DeviceOptions);
  // `judge` follows only where this resolves: it would cut off the pods that have no programs yet.
  const attached = attacher.attach(planOf(3 * tcxPinsMax), 'all');
  const stopped = attacher.stop();
  first.resolve(new Map());
  await assert.rejects(attached, { code: 'TANDEM_STOPPING' });
  await stopped;
  assert.deepEqual(asked, [tcxPinsMax]);
});
