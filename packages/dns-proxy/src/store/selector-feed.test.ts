// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { tdGroup } from '@tandem/datapath/abi.gen';
import { NodeGroup } from '@tandem/datapath/group';
import { agentMember, proxyMember } from '@tandem/datapath/member';
import { PatternContext } from '@tandem/proto/gen/messages';
import { decodePolicySnapshot, encodePolicySnapshot } from '@tandem/proto/snapshot';
import { systemClock } from '@tandem/runtime/system-clock';
import { loopTimers, runTask } from '@tandem/runtime/task';
import { type KernelMaps, loadKernelMaps } from '../../test/kernel-maps.ts';
import { address, dnsRecord, wireName } from '../../test/records.ts';
import { smallStore } from '../../test/small-store.ts';
import { selectorsOf } from '../admin/kernel-view.ts';
import { buildImage } from '../policy/build-image.ts';
import { PolicyTables } from '../policy/tables.ts';
import { flagLearned, flagTrusted } from '../records/dns-event.ts';
import { Backfill } from './backfill.ts';
import type { NodeStore } from './node-store.ts';
import { SelectorFeed } from './selector-feed.ts';

const selector = 0x8000_0001;
const now = 1000;

function tables(): PolicyTables {
  const context = PatternContext.PATTERN_CONTEXT_TO_FQDNS;
  const encoded = encodePolicySnapshot({
    revision: 1,
    patterns: [{ text: '*.example.', context }],
    selectors: [{ id: selector, patternIndex: 0, policyId: 0 }],
  });
  assert.ok(encoded.ok);
  const decoded = decodePolicySnapshot(encoded.value);
  assert.ok(decoded.ok);
  return new PolicyTables(buildImage(decoded.value).image);
}

function know(store: NodeStore, name: string, to: string): void {
  const wire = wireName(name);
  store.cache.learn(wire, wire.length, address(to), 0, now + 50, 3, 0);
}

interface Bed {
  readonly feed: SelectorFeed;
  readonly store: NodeStore;
  readonly backfill: Backfill;
  readonly group: NodeGroup;
  readonly errors: unknown[];
  /** Resolves when no walk runs. */
  readonly rest: () => Promise<void>;
}

/** The proxy's feed of a kernel; its tables may be something else for a while. */
function bed({ writer }: KernelMaps, inForce: () => PolicyTables | null = tables): Bed {
  const store = smallStore();
  const backfill = new Backfill({ cache: store.cache, writer, nowSeconds: () => now });
  const group = new NodeGroup(new ArrayBuffer(tdGroup.size));
  const errors: unknown[] = [];
  const feed = new SelectorFeed({
    ...{ store, backfill, group },
    member: proxyMember,
    exchange: { counters: { cachesReceived: 0 } } as ConstructorParameters<
      typeof SelectorFeed
    >[0]['exchange'],
    clock: systemClock,
    timers: loopTimers,
    tables: inForce,
    onError: (error) => errors.push(error),
  });
  const rest = async (): Promise<void> => {
    // oxlint-disable-next-line no-await-in-loop -- a turn of the event loop each
    while (!feed.isIdle) await new Promise(setImmediate);
  };
  return { feed, store, backfill, group, errors, rest };
}

test('whoever asks for a walk over all names while one runs shares the next', async () => {
  using kernel = loadKernelMaps();
  let isFirst = true;
  const { feed, store, backfill, rest }: Bed = bed(kernel, () => {
    if (!isFirst) return tables();
    isFirst = false;
    // This one has begun: it may be past what comes now.
    know(store, 'late.example', '203.0.113.2');
    for (let i = 0; i < 100; i++) feed.feedAll();
    return null;
  });
  feed.feedAll();
  await rest();
  assert.equal(backfill.counters.runs, 1);
  assert.deepEqual(selectorsOf(kernel.fqdn, address('203.0.113.2'), 9), [selector]);
});

test('a walk that fails is told of, and the next one is whole', async () => {
  using kernel = loadKernelMaps();
  let fails = true;
  const { feed, store, errors, rest } = bed(kernel, () => {
    if (fails) throw new RangeError('of this walk');
    return tables();
  });
  know(store, 'one.example', '203.0.113.1');
  feed.feedAll();
  await rest();
  assert.deepEqual(errors.map(String), ['RangeError: of this walk']);
  fails = false;
  feed.feedAll();
  await rest();
  assert.deepEqual(selectorsOf(kernel.fqdn, address('203.0.113.1'), 9), [selector]);
});

test('the cache of the other process is waited for while that one serves, until it is fed', async () => {
  using kernel = loadKernelMaps();
  const { feed, store, group } = bed(kernel);
  assert.equal(await runTask(feed.peerCache(60_000)), false, 'nobody serves');
  group.join(agentMember, 1, systemClock.monotonicMs() * 1e6, 1);
  assert.equal(await runTask(feed.peerCache(1)), false, 'its time is up');
  group.beat(agentMember, systemClock.monotonicMs() * 1e6);
  const came = runTask(feed.peerCache(60_000));
  know(store, 'one.example', '203.0.113.1');
  store.onCacheReceived?.();
  assert.equal(await came, true);
  assert.deepEqual(selectorsOf(kernel.fqdn, address('203.0.113.1'), 9), [selector]);
});

test('new selectors are fed, and names that a member without them answered are late from then on', async () => {
  using kernel = loadKernelMaps();
  const { feed, store } = bed(kernel);
  know(store, 'one.example', '203.0.113.1');
  const late = dnsRecord({
    ...{ name: 'two.example', addresses: [['203.0.113.2', 100]], timeUs: 0 },
    ...{ member: agentMember, flags: flagLearned | flagTrusted },
  });
  await runTask(feed.feedSelectors([selector]));
  assert.deepEqual(selectorsOf(kernel.fqdn, address('203.0.113.1'), 9), [selector]);
  assert.equal(store.takeLateNames(), false);
  store.dnsRecord(late, 0, late.length);
  assert.equal(store.takeLateNames(), true);
});
