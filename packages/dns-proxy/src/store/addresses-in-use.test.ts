// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { tdFqdnLive, tdFqdnLiveKey, tdLearnOp } from '@tandem/datapath/abi.gen';
import { type KernelMaps, loadKernelMaps } from '../../test/kernel-maps.ts';
import { address } from '../../test/records.ts';
import { AddressesInUse } from './addresses-in-use.ts';

const selector = 0x8000_0001;
const now = 10_000;
const liveSeconds = 1000;

function inUseOf(
  kernel: KernelMaps,
  options: Partial<ConstructorParameters<typeof AddressesInUse>[0]>,
): AddressesInUse {
  return new AddressesInUse({
    fqdn: kernel.fqdn,
    live: () => kernel.map('fqdn_live'),
    counters: () => kernel.map('fqdn_live_counters'),
    liveSeconds,
    ...options,
  });
}

function learn({ writer }: KernelMaps, text: string, expires: number, id = selector): void {
  const words = new Uint32Array(address(text).buffer);
  writer.add(tdLearnOp.ADD, words, 0, id, expires, 3, text.includes(':'));
  assert.equal(writer.run(), 0);
  writer.count = 0;
}

/** As `judge` notes it. */
function use(kernel: KernelMaps, text: string, until: number, id = selector): void {
  const key = new Uint8Array(tdFqdnLiveKey.size);
  key.set(address(text));
  new DataView(key.buffer).setUint32(tdFqdnLiveKey.selector, id, true);
  const value = new Uint8Array(tdFqdnLive.size);
  new DataView(value.buffer).setUint32(tdFqdnLive.until_s, until, true);
  kernel.map('fqdn_live').update(key, value);
}

test('the latest use by any selector of the address counts, and no longer than the bound', () => {
  using kernel = loadKernelMaps();
  const inUse = inUseOf(kernel, {});
  const untilOf = (text: string): number => inUse.until(address(text), 0);
  assert.equal(untilOf('203.0.113.1'), 0, 'not learned');
  learn(kernel, '203.0.113.1', now - 10);
  assert.equal(untilOf('203.0.113.1'), 0, 'not used');
  use(kernel, '203.0.113.1', now + 50);
  assert.equal(untilOf('203.0.113.1'), now + 50);
  for (let i = 1; i < 20; i++) learn(kernel, '203.0.113.1', now - 10, (selector + i) >>> 0);
  use(kernel, '203.0.113.1', now + 70, selector + 19);
  assert.equal(untilOf('203.0.113.1'), now + 70, 'on the second page');
  learn(kernel, '2001:db8::1', now - liveSeconds + 5);
  use(kernel, '2001:db8::1', now + 50);
  assert.equal(untilOf('2001:db8::1'), now + 5, 'the bound');
  use(kernel, '203.0.113.9', now + 50);
  assert.equal(untilOf('203.0.113.9'), 0, 'an entry without a slot opens nothing');
  const off = inUseOf(kernel, { liveSeconds: 0 });
  assert.equal(off.until(address('203.0.113.1'), 0), 0);
  const older = inUseOf(kernel, { live: () => null, counters: () => null });
  assert.equal(older.until(address('203.0.113.1'), 0), 0, 'under an agent that knows no use');
  assert.equal(older.step(now), true);
  assert.deepEqual([older.passed, older.full], [0, 0]);
});

test('a pair that moves to another page between two reads is seen', () => {
  using kernel = loadKernelMaps();
  const { writer } = kernel;
  const text = '203.0.113.1';
  for (let i = 0; i < 17; i++) learn(kernel, text, now - 10, (selector + i) >>> 0);
  use(kernel, text, now + 50, selector + 16);
  let isMoved = false;
  const lookupInto = (key: Uint8Array, page: Uint8Array): boolean => {
    const isThere = kernel.fqdn.lookupInto(key, page);
    if (isThere && !isMoved) {
      writer.add(tdLearnOp.REMOVE, new Uint32Array(address(text).buffer), 0, selector, 0, 3, false);
      writer.run();
      writer.count = 0;
      isMoved = true;
    }
    return isThere;
  };
  assert.equal(inUseOf(kernel, { fqdn: { lookupInto } }).until(address(text), 0), now + 50);
  assert.ok(isMoved);
});

test('the sweep forgets what is past, step by step, and nothing else', () => {
  using kernel = loadKernelMaps();
  const stepEntries = 64;
  const inUse = inUseOf(kernel, { stepEntries });
  const total = 1000;
  for (let i = 0; i < total; i++) use(kernel, `203.0.${i >> 8}.${i & 255}`, now + (i % 2));
  let steps = 1;
  while (!inUse.step(now)) steps += 1;
  assert.ok(steps >= total / stepEntries, `${steps} steps`);
  assert.equal(inUse.swept, total / 2);
  const left = [...kernel.map('fqdn_live').entries()];
  assert.equal(left.length, total / 2);
  while (!inUse.step(now));
  assert.equal(inUse.swept, total / 2, 'nothing is left to do');
  while (!inUse.step(now + 1));
  assert.deepEqual([...kernel.map('fqdn_live').entries()], []);
});
