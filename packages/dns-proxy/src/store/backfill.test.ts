// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FqdnCache } from '@tandem/core/fqdn/cache';
import {
  TD_MEMBERS_MAX,
  tdLearnArgs,
  tdLearnBatch,
  tdLearnRequest,
  tdLearnResult,
} from '@tandem/datapath/abi.gen';
import { PatternContext, type PolicySnapshotInit } from '@tandem/proto/gen/messages';
import { decodePolicySnapshot, encodePolicySnapshot } from '@tandem/proto/snapshot';
import { runTask } from '@tandem/runtime/task';
import { loadKernelMaps } from '../../test/kernel-maps.ts';
import { address, wireName } from '../../test/records.ts';
import { smallStore } from '../../test/small-store.ts';
import { selectorsOf } from '../admin/kernel-view.ts';
import { buildImage } from '../policy/build-image.ts';
import { PolicyTables } from '../policy/tables.ts';
import { Backfill } from './backfill.ts';
import { backfillSliceNames } from './limits.ts';
import type { NodeStore } from './node-store.ts';

const shared = 0x8000_0001;
const privately = 0x8000_0002;
const later = 0x8000_0003;
const now = 1000;

/** Selectors: `shared` and `later` learn from trusted servers, `privately` from those of policy 70. */
function tables(predecessors: readonly number[] = []): PolicyTables {
  const context = PatternContext.PATTERN_CONTEXT_TO_FQDNS;
  const policy: PolicySnapshotInit = {
    revision: 1,
    patterns: [
      { text: '*.example.', context },
      { text: 'two.example.', context },
    ],
    selectors: [
      { id: shared, patternIndex: 0, policyId: 0 },
      { id: privately, patternIndex: 0, policyId: 70 },
      { id: later, patternIndex: 1, policyId: 0 },
    ],
    policies: [{ id: 70, predecessors: [...predecessors] }],
  };
  const encoded = encodePolicySnapshot(policy);
  assert.ok(encoded.ok);
  const decoded = decodePolicySnapshot(encoded.value);
  assert.ok(decoded.ok, decoded.ok ? '' : decoded.error);
  return new PolicyTables(buildImage(decoded.value).image);
}

function know(store: NodeStore, name: string, to: string, expires: number, scope = 0): void {
  const wire = wireName(name);
  store.cache.learn(wire, wire.length, address(to), 0, expires, 3, scope);
}

test('a new selector gets the addresses of its names, the living ones, in its scope', async () => {
  using kernel = loadKernelMaps();
  const store = smallStore();
  know(store, 'one.example', '203.0.113.1', now + 50);
  know(store, 'one.example', '2001:db8::1', now + 50);
  know(store, 'two.example', '203.0.113.2', now + 50);
  know(store, 'old.example', '203.0.113.3', now);
  know(store, 'own.example', '203.0.113.4', now + 50, 70);
  know(store, 'foreign.example', '203.0.113.5', now + 50, 71);
  know(store, 'one.test', '203.0.113.6', now + 50);
  know(store, 'local.example', '127.0.0.1', now + 50);
  const { writer, fqdn } = kernel;
  const backfill = new Backfill({ cache: store.cache, writer, nowSeconds: () => now });
  const held = (text: string): number[] => selectorsOf(fqdn, address(text), 9).toSorted();

  await runTask(backfill.feedNew(tables(), [shared, privately]));
  assert.deepEqual(held('203.0.113.1'), [shared]);
  assert.deepEqual(held('2001:db8::1'), [shared]);
  assert.deepEqual(held('203.0.113.2'), [shared], 'a selector that was not asked for');
  assert.deepEqual(held('203.0.113.4'), [privately]);
  for (const text of ['203.0.113.3', '203.0.113.5', '203.0.113.6', '127.0.0.1']) {
    assert.deepEqual(held(text), [], text);
  }
  assert.equal(backfill.counters.refused, 1);
  assert.equal(backfill.counters.added, 4);

  // Only what is new is looked for the next time.
  assert.deepEqual([...backfill.freshOf(tables(), [shared, privately, later])], [later]);
  await runTask(backfill.feedNew(tables(), [shared, privately, later]));
  assert.deepEqual(held('203.0.113.2'), [shared, later]);
  assert.equal(backfill.counters.added, 5);
  await runTask(backfill.feedNew(tables(), [shared, privately, later]));
  assert.equal(backfill.counters.runs, 2);

  // The other process's names come later: everything is looked at again.
  know(store, 'late.example', '203.0.113.7', now + 50);
  await runTask(backfill.feedAll(tables()));
  assert.deepEqual(held('203.0.113.7'), [shared]);
});

test('a name whose page was busy is fed again', async () => {
  using kernel = loadKernelMaps();
  const store = smallStore();
  know(store, 'one.example', '203.0.113.1', now + 50);
  const { writer, fqdn } = kernel;
  const results = new Int16Array(kernel.map('learn_requests').mmap());
  const first = (TD_MEMBERS_MAX * tdLearnBatch.size + tdLearnRequest.result) / 2;
  let busy = 2;
  writer.follow({
    runSyscall: (args) => {
      if (busy-- <= 0) return kernel.program('learn').runSyscall(args);
      results[first] = tdLearnResult.REFUSED_BUSY;
      args[tdLearnArgs.failed] = 1;
      return 0;
    },
  });
  const backfill = new Backfill({ cache: store.cache, writer, nowSeconds: () => now });
  await runTask(backfill.feedNew(tables(), [shared]));
  assert.deepEqual(selectorsOf(fqdn, address('203.0.113.1'), 9), [shared]);
  assert.deepEqual([backfill.counters.added, backfill.counters.refused], [1, 0]);
});

test('many names are fed in slices that let others have their turn', async () => {
  using kernel = loadKernelMaps();
  const { writer, fqdn } = kernel;
  const count = backfillSliceNames * 2 + 100;
  const large = new FqdnCache({ key: { low: 1, high: 2 } });
  for (let i = 0; i < count; i++) {
    const wire = wireName(`n${i}.example`);
    large.learn(wire, wire.length, address(`203.0.${i >> 8}.${i & 255}`), 0, now + 50, 3, 0);
  }
  const backfill = new Backfill({ cache: large, writer, nowSeconds: () => now });
  let turns = 0;
  const timer = setInterval(() => {
    turns += 1;
  }, 0);
  await runTask(backfill.feedNew(tables(), [shared]));
  clearInterval(timer);
  assert.equal(backfill.counters.added, count);
  assert.ok(turns >= 1);
  assert.deepEqual(selectorsOf(fqdn, address(`203.0.0.9`), 9), [shared]);
});

test('a policy that takes the place of another gets what that one heard', async () => {
  using kernel = loadKernelMaps();
  const store = smallStore();
  know(store, 'own.example', '203.0.113.4', now + 50, 70);
  know(store, 'former.example', '203.0.113.5', now + 50, 71);
  know(store, 'foreign.example', '203.0.113.6', now + 50, 72);
  const { writer, fqdn } = kernel;
  const backfill = new Backfill({ cache: store.cache, writer, nowSeconds: () => now });
  const held = (text: string): number[] => selectorsOf(fqdn, address(text), 9);

  await runTask(backfill.feedNew(tables(), [privately]));
  assert.deepEqual(held('203.0.113.5'), []);
  // The selector is not new, but who feeds it is.
  const successor = tables([71]);
  assert.deepEqual([...backfill.freshOf(successor, [privately])], [privately]);
  await runTask(backfill.feedNew(successor, [privately]));
  assert.deepEqual(held('203.0.113.4'), [privately]);
  assert.deepEqual(held('203.0.113.5'), [privately]);
  assert.deepEqual(held('203.0.113.6'), []);
  assert.equal(backfill.freshOf(successor, [privately]).size, 0);
});
