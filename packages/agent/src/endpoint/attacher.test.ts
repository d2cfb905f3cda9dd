// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { tcxPinsMax } from '@tandem/bpf-loader-node/link-pins';
import type { Datapath, PodVeth } from '@tandem/datapath/datapath';
import type { NodeDevices } from '@tandem/datapath/device-maps';
import { RTPROT_TANDEM } from '@tandem/netlink/constants';
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
    introducePods: () => false,
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

describe('steps', () => {
  const ports = 3 * tcxPinsMax;
  const links = new Map(
    Array.from({ length: ports }, (_, i) => [
      1000 + i,
      { ifindex: 1000 + i, name: `port${i}`, kind: 'vxlan', master: 1, tunnelPort: 0 },
    ]),
  );
  links.set(1, { ifindex: 1, name: 'cni0', kind: 'bridge', master: 0, tunnelPort: 0 });

  /** Calls in their order. `on`: also done at a call. */
  function stepsOf(
    isFirst: boolean,
    on: Readonly<Record<string, (attacher: Attacher) => unknown>> = {},
  ): { readonly attacher: Attacher; readonly steps: string[] } {
    const steps: string[] = [];
    const step = async (what: string): Promise<ReadonlyMap<number, string>> => {
      steps.push(what);
      await on[what]?.(attacher);
      return new Map();
    };
    const datapath = {
      map: () => ({ entries: () => [], lookup: () => null }),
      podBridges: () => ['cni0'],
      introducePods: (all: readonly number[]) => {
        void step(`introduce ${all.length}`);
        return isFirst;
      },
      setNodeDevices: ({ trusted }: NodeDevices) => {
        void step(`trust ${trusted.length}`);
        return [];
      },
      attachEndpoints: (some: readonly PodVeth[]) => step(`attach ${some.length}`),
      detachEndpoints: () => void step('detach'),
      unguardExits: () => void step('unguard'),
      guardExits: (some: readonly number[]) => step(`guard ${some.length}`),
    } as unknown as Datapath;
    const view = {
      state: {
        links,
        linkByName: (name: string) => [...links.values()].find((link) => link.name === name),
        routes: { waysOut: new Map() },
        neighbors: [{ ifindex: 1, address: new Uint8Array(4), protocol: RTPROT_TANDEM }],
      },
      rtnetlink: { deleteNeighbor: () => step('delete neighbour') },
    } as unknown as NetworkView;
    const options = { trustedInterfaces: [], podBridges: [], tunnelPorts: [] };
    const attacher = new Attacher(datapath, view, options, () => void step('devices'));
    return { attacher, steps };
  }

  test('at a first start pods and trusted ports are known before the first program, and ARP is guarded after the last', async () => {
    const { attacher, steps } = stepsOf(true);
    await attacher.attach(planOf(tcxPinsMax + 1), 'all');
    assert.deepEqual(steps, [
      ...['introduce 17', 'trust 48', 'attach 16', 'attach 1', 'detach', 'delete neighbour'],
      ...['trust 48', 'devices', 'unguard', 'guard 16', 'guard 16', 'guard 16'],
    ]);
  });

  test('where judge is attached, devices are written after the programs alone', async () => {
    const { attacher, steps } = stepsOf(false);
    await attacher.attach(planOf(1), 'all');
    assert.deepEqual(steps.slice(0, 3), ['introduce 1', 'attach 1', 'detach']);
  });

  for (const [at, last] of [
    ['delete neighbour', 'delete neighbour'],
    ['guard 16', 'guard 16'],
  ] as const) {
    test(`an agent that stops at "${at}" begins nothing after it`, async () => {
      const stopping: Promise<void>[] = [];
      const { attacher, steps } = stepsOf(true, {
        [at]: (self) => void stopping.push(self.stop()),
      });
      await assert.rejects(attacher.attach(planOf(1), 'all'), { code: 'TANDEM_STOPPING' });
      await Promise.all(stopping);
      assert.equal(steps.at(-1), last);
      assert.equal(steps.filter((each) => each === last).length, 1);
    });
  }
});
