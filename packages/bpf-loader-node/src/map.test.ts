// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, test } from 'node:test';

import { bindReuseport, objectPath, PinDirectory, readU32, u32, u64 } from '../test/fixture.ts';
import { BpfError } from './errors.ts';
import { BpfMap, mapFlag, mapType, unmap, updateFlag } from './map.ts';
import { BpfObject } from './object.ts';
import { BpfProgram } from './program.ts';

const object = BpfObject.open(objectPath('loader'));
object.load();
after(() => object[Symbol.dispose]());

function hasCode(code: string): (error: unknown) => boolean {
  return (error) => error instanceof BpfError && error.code === code;
}

test('hash: lookup, update by flags, delete, full', () => {
  using map = BpfMap.create({
    type: mapType.hash,
    name: 'test_hash',
    keySize: 4,
    valueSize: 8,
    maxEntries: 2,
  });
  assert.equal(map.lookup(u32(1)), null);
  map.update(u32(1), u64(11n), updateFlag.noExist);
  assert.throws(
    () => map.update(u32(1), u64(12n), updateFlag.noExist),
    hasCode('TANDEM_BPF_EXISTS'),
  );
  assert.throws(
    () => map.update(u32(2), u64(12n), updateFlag.exist),
    hasCode('TANDEM_BPF_NOT_FOUND'),
  );
  const value = new Uint8Array(8);
  assert.equal(map.lookupInto(u32(1), value), true);
  assert.deepEqual(value, u64(11n));
  assert.equal(map.lookup(u32(1), value), value, 'the given array');
  map.update(u32(2), u64(12n));
  assert.throws(
    () => map.update(u32(3), u64(13n)),
    (error: unknown) =>
      error instanceof BpfError &&
      error.code === 'TANDEM_BPF_FULL' &&
      error.errnoName === 'E2BIG' &&
      error.object === 'test_hash' &&
      error.syscall === 'BPF_MAP_UPDATE_ELEM',
  );
  assert.equal(map.delete(u32(1)), true);
  assert.equal(map.delete(u32(1)), false);
});

test('sizes that are not the map’s throw before the kernel is asked', () => {
  const table = object.map('table');
  assert.throws(() => table.lookup(new Uint8Array(3)), RangeError);
  assert.throws(() => table.lookup(new Uint8Array(0)), RangeError);
  assert.throws(() => table.lookupInto(u32(1), new Uint8Array(55)), RangeError);
  assert.throws(() => table.update(u32(1), new Uint8Array(57)), RangeError);
  assert.throws(() => table.delete(new Uint8Array(8)), RangeError);
  assert.throws(() => table.nextKeyInto(null, new Uint8Array(5)), RangeError);
  assert.throws(() => table.updateBatch(u32(1, 2), new Uint8Array(56), 2), RangeError);
  assert.throws(() => table.updateBatch(u32(1), new Uint8Array(112), 2), RangeError);
  assert.throws(() => table.deleteBatch(u32(1), 2), RangeError);
  const detached = u32(1);
  structuredClone(detached.buffer, { transfer: [detached.buffer as ArrayBuffer] });
  assert.throws(() => table.lookup(detached), RangeError);
});

test('trie: longest prefix wins', () => {
  const trie = object.map('trie');
  const key = (bits: number, ...address: number[]): Uint8Array => {
    const bytes = new Uint8Array(8);
    bytes.set(u32(bits));
    bytes.set(address, 4);
    return bytes;
  };
  trie.update(key(8, 10), u32(8));
  trie.update(key(24, 10, 1, 2), u32(24));
  assert.equal(readU32(trie.lookup(key(32, 10, 1, 2, 3)) ?? u32(0)), 24);
  assert.equal(readU32(trie.lookup(key(32, 10, 9, 9, 9)) ?? u32(0)), 8);
  assert.equal(trie.lookup(key(32, 11, 0, 0, 1)), null);
  assert.throws(() => trie.update(key(33, 10), u32(1)), hasCode('TANDEM_BPF_SYSCALL'));
});

test('array memory is shared with programs and with system calls', () => {
  const shared = object.map('shared');
  const words = new BigUint64Array(shared.mmap());
  assert.equal(words.length, 16);
  const before = words[0] ?? 0n;
  object.program('compute').runSyscall(u32(1, 1, 0, 0));
  assert.equal(words[0], before + 1n);
  words[5] = 99n;
  assert.deepEqual(shared.lookup(u32(5)), u64(99n));
});

test('a mapping outlives its map and ends when it is detached', () => {
  const map = BpfMap.create({
    type: mapType.array,
    name: 'test_mmap',
    keySize: 4,
    valueSize: 5,
    maxEntries: 3,
    flags: mapFlag.mmapable,
  });
  const buffer = map.mmap();
  const bytes = new Uint8Array(buffer);
  assert.equal(bytes.length, 24, 'elements are 8 bytes apart');
  map.update(u32(1), Uint8Array.of(1, 2, 3, 4, 5));
  map[Symbol.dispose]();
  assert.deepEqual([...bytes.subarray(8, 13)], [1, 2, 3, 4, 5]);
  bytes[8] = 6;
  assert.equal(bytes[8], 6);
  assert.throws(() => map.mmap(), hasCode('TANDEM_BPF_CLOSED'));
  unmap(buffer);
  assert.equal(buffer.byteLength, 0);
  assert.equal(bytes.length, 0);
  assert.throws(() => new DataView(buffer).getUint8(8), TypeError);
  assert.throws(() => unmap({} as ArrayBuffer), TypeError);
});

test('a part of the memory begins anywhere in a page, and ends with its mapping', () => {
  using map = BpfMap.create({
    type: mapType.array,
    name: 'test_part',
    keySize: 4,
    valueSize: 1536,
    maxEntries: 100,
    flags: mapFlag.mmapable,
  });
  const whole = new Uint8Array(map.mmap());
  const part = map.mmap({ offset: 50 * 1536, length: 1536 });
  assert.equal(part.byteLength, 1536);
  new Uint8Array(part)[8] = 7;
  assert.equal(whole[50 * 1536 + 8], 7);
  unmap(part);
  assert.equal(part.byteLength, 0);
  assert.equal(whole[50 * 1536 + 8], 7);
  assert.throws(() => map.mmap({ offset: 99 * 1536, length: 1537 }), BpfError);
});

test('memory that cannot be written is not mapped', () => {
  assert.throws(() => object.map('table').mmap(), hasCode('TANDEM_BPF_UNSUPPORTED'));
  assert.throws(() => object.map('.rodata').mmap(), BpfError, 'frozen: a store would be a fault');
  using map = BpfMap.create({
    type: mapType.array,
    name: 'test_freeze',
    keySize: 4,
    valueSize: 8,
    maxEntries: 1,
    flags: mapFlag.mmapable,
  });
  map.freeze();
  assert.throws(() => map.mmap(), hasCode('TANDEM_BPF_PERMISSION'));
  assert.throws(() => map.update(u32(0), u64(1n)), hasCode('TANDEM_BPF_PERMISSION'));
});

test('per-CPU values are the concatenation of all possible CPUs', () => {
  const counters = object.map('counters');
  const last = readFileSync('/sys/devices/system/cpu/possible', 'utf8').trim().split(/[-,]/).at(-1);
  const cpus = Number(last) + 1;
  assert.equal(counters.valueSize, 4);
  assert.equal(counters.valueBytes, 8 * cpus);
  const values = new Uint8Array(8 * cpus);
  for (let cpu = 0; cpu < cpus; cpu++) values.set(u32(100 + cpu), 8 * cpu);
  counters.update(u32(1), values);
  assert.deepEqual(counters.lookup(u32(1)), values);
  assert.throws(() => counters.lookupInto(u32(1), new Uint8Array(4)), RangeError);
  const key = u32(0);
  const sum = (bytes: Uint8Array): number => {
    let total = 0;
    for (let cpu = 0; cpu < cpus; cpu++) total += readU32(bytes, 2 * cpu);
    return total;
  };
  const before = sum(counters.lookup(key) ?? values);
  object.program('count_packet').testRun({ data: new Uint8Array(64) });
  assert.equal(sum(counters.lookup(key) ?? values), before + 1);
});

test('program array: a slot by fd, emptied by delete', () => {
  const slots = object.map('slots');
  const packet = { data: new Uint8Array(64) };
  const root = object.program('slot_root');
  assert.equal(root.testRun(packet).retval, 0, 'an empty slot falls through');
  slots.update(u32(1), u32(object.program('slot_target').fd));
  assert.equal(root.testRun(packet).retval, 2);
  assert.deepEqual([...slots.entries()], [[u32(1), u32(object.program('slot_target').id)]]);
  slots.delete(u32(1));
  assert.equal(root.testRun(packet).retval, 0);
  assert.throws(() => slots.update(u32(1), u32(0xffff)), BpfError, 'no such fd');
});

test('socket array: a bound reuseport socket by fd', async (t) => {
  const listeners = object.map('listeners');
  const { socket, fd } = await bindReuseport();
  t.after(() => socket.close());
  listeners.update(u32(0), u64(BigInt(fd)));
  assert.notEqual(listeners.lookup(u32(0)), null);
  assert.throws(() => listeners.update(u32(0), u64(BigInt(fd)), updateFlag.noExist), BpfError);
  assert.equal(listeners.delete(u32(0)), true);
  assert.throws(() => listeners.update(u32(0), u64(0n)), BpfError, 'standard input is no socket');
});

test('pins: opened again, of the right kind, read-only when asked', () => {
  using pins = new PinDirectory();
  using map = BpfMap.create({
    type: mapType.hash,
    name: 'test_pinned',
    keySize: 4,
    valueSize: 4,
    maxEntries: 4,
  });
  map.update(u32(1), u32(5));
  map.pin(`${pins.path}/map`);
  object.program('compute').pin(`${pins.path}/program`);
  using again = BpfMap.openPinned(`${pins.path}/map`);
  assert.equal(again.name, 'test_pinned');
  assert.equal(again.id, map.id);
  assert.deepEqual(again.lookup(u32(1)), u32(5));
  using readOnly = BpfMap.openPinned(`${pins.path}/map`, { isReadOnly: true });
  assert.deepEqual(readOnly.lookup(u32(1)), u32(5));
  assert.throws(() => readOnly.update(u32(1), u32(6)), hasCode('TANDEM_BPF_PERMISSION'));
  assert.throws(() => BpfMap.openPinned(`${pins.path}/none`), hasCode('TANDEM_BPF_NOT_FOUND'));
  assert.throws(() => BpfMap.openPinned(`${pins.path}/program`), hasCode('TANDEM_BPF_KIND'));
  assert.throws(() => BpfProgram.openPinned(`${pins.path}/map`), hasCode('TANDEM_BPF_KIND'));
  assert.throws(() => BpfMap.openPinned('/etc/passwd'), BpfError);
  using program = BpfProgram.openPinned(`${pins.path}/program`);
  assert.equal(program.runSyscall(u32(1, 1, 0, 0)), 0);
});

test('from an fd: a duplicate with a life of its own', () => {
  const first = BpfMap.create({
    type: mapType.hash,
    name: 'test_fd',
    keySize: 4,
    valueSize: 4,
    maxEntries: 4,
  });
  using second = BpfMap.fromFd(first.fd);
  using third = BpfMap.openId(first.id);
  first[Symbol.dispose]();
  second.update(u32(1), u32(2));
  assert.deepEqual(third.lookup(u32(1)), u32(2));
  assert.throws(() => BpfMap.fromFd(0), hasCode('TANDEM_BPF_KIND'));
  assert.throws(() => BpfMap.fromFd(999_999), BpfError);
  assert.throws(() => BpfMap.fromFd(-1), BpfError);
  assert.throws(() => BpfMap.openId(0x7fff_ffff), hasCode('TANDEM_BPF_NOT_FOUND'));
});
