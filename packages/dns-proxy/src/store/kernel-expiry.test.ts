// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TD_SLOT_OWNED, tdFqdn, tdFqdnKey, tdFqdnSlot, tdLearnOp } from '@tandem/datapath/abi.gen';
import { readLearnedSpaces } from '@tandem/datapath/learned-spaces';
import { type KernelMaps, loadKernelMaps } from '../../test/kernel-maps.ts';
import { address } from '../../test/records.ts';
import { selectorsOf } from '../admin/kernel-view.ts';
import { learnBatchMax } from '../answer/kernel-writer.ts';
import { KernelExpiry } from './kernel-expiry.ts';

const selector = 0x8000_0001;
const idleSeconds = 60;
const now = 10_000;

function learn({ writer }: KernelMaps, text: string, expires: number, id = selector): void {
  const words = new Uint32Array(address(text).buffer);
  writer.add(tdLearnOp.ADD, words, 0, id, expires, 3, text.includes(':'));
  if (writer.count < learnBatchMax) return;
  assert.equal(writer.run(), 0);
  writer.count = 0;
}

function finish({ writer }: KernelMaps): void {
  assert.equal(writer.run(), 0);
  writer.count = 0;
}

test('what expired and is idle goes, step by step; the rest stays', () => {
  using kernel = loadKernelMaps();
  const { fqdn, writer } = kernel;
  const total = 1000;
  const textOf = (i: number): string => `203.0.${i >> 8}.${i & 255}`;
  // Every third lives, every third is idle for less than the limit.
  const expires = [now + 10, now - idleSeconds + 5, now - idleSeconds - 5] as const;
  for (let i = 0; i < total; i++) learn(kernel, textOf(i), expires[i % 3]!);
  learn(kernel, '2001:db8::1', now - 1000);
  // One selector of an address goes, the other one stays.
  learn(kernel, textOf(0), now - 1000, selector + 1);
  finish(kernel);

  const stepEntries = 64;
  const expiry = new KernelExpiry({ fqdn, writer, idleSeconds, stepEntries });
  let steps = 1;
  while (!expiry.step(now)) steps += 1;
  assert.ok(steps >= total / stepEntries, `${steps} steps`);
  for (let i = 0; i < total; i++) {
    assert.deepEqual(
      selectorsOf(fqdn, address(textOf(i)), 9),
      i % 3 === 2 ? [] : [selector],
      textOf(i),
    );
  }
  assert.deepEqual(selectorsOf(fqdn, address('2001:db8::1'), 9), []);
  assert.equal(expiry.walks, 1);
  const { submitted } = expiry;
  assert.equal(submitted, 333 + 2);
  while (!expiry.step(now)) steps += 1;
  assert.equal(expiry.submitted, submitted, 'nothing is left to do');
});

test('an address that connections use stays, however long ago its name expired', () => {
  using kernel = loadKernelMaps();
  const { fqdn, writer } = kernel;
  learn(kernel, '203.0.113.1', now - 1000);
  finish(kernel);
  const [[key, value] = []] = [...fqdn.entries()];
  assert.ok(key !== undefined && value !== undefined);
  // As `judge` notes it for each packet of a confirmed connection.
  const used = (seconds: number): void => {
    const view = new DataView(value.buffer, value.byteOffset);
    view.setBigUint64(tdFqdn.last_used_ns, BigInt(seconds) * 1_000_000_000n, true);
    fqdn.update(key, value);
  };
  const expiry = new KernelExpiry({ fqdn, writer, idleSeconds });
  used(now - 10);
  while (!expiry.step(now));
  assert.deepEqual(selectorsOf(fqdn, address('203.0.113.1'), 9), [selector]);
  used(now - idleSeconds - 10);
  while (!expiry.step(now));
  assert.deepEqual(selectorsOf(fqdn, address('203.0.113.1'), 9), []);
});

test('slots that the version before wrote are put in the order of their namespace', () => {
  using kernel = loadKernelMaps();
  const { fqdn, writer } = kernel;
  const namespaceId = 0x1234_5678;
  learn(kernel, '203.0.113.1', now + 100);
  learn(kernel, '2001:db8::1', now + 100);
  finish(kernel);
  const word = (text: string): [key: Uint8Array, value: Uint8Array, word: DataView] => {
    const key = new Uint8Array(tdFqdnKey.size);
    key.set(address(text));
    const value = fqdn.lookup(key);
    assert.ok(value !== null);
    const at = tdFqdn.slot + tdFqdnSlot.namespace_id;
    return [key, value, new DataView(value.buffer, value.byteOffset + at, 4)];
  };
  for (const text of ['203.0.113.1', '2001:db8::1']) {
    const [key, value, view] = word(text);
    view.setUint32(0, namespaceId, true);
    fqdn.update(key, value);
  }
  const used = (): number =>
    readLearnedSpaces(kernel.map('learned_order')).find((space) => {
      return space.namespaceId === namespaceId;
    })?.used ?? 0;
  assert.equal(used(), 0);
  const expiry = new KernelExpiry({ fqdn, writer, idleSeconds });
  while (!expiry.step(now));
  assert.deepEqual([expiry.adopted, used()], [2, 2]);
  for (const text of ['203.0.113.1', '2001:db8::1']) {
    const [, , view] = word(text);
    assert.ok(view.getUint32(0, true) >= TD_SLOT_OWNED, 'the slot names its pair');
    assert.deepEqual(selectorsOf(fqdn, address(text), 9), [selector], 'in place');
  }
  while (!expiry.step(now));
  assert.equal(expiry.adopted, 2, 'once');
});
