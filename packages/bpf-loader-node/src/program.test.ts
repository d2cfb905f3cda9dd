// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { objectPath, readU32, u32 } from '../test/fixture.ts';
import { BpfError } from './errors.ts';
import { BpfObject } from './object.ts';
import { BpfProgram, programIds, programType } from './program.ts';

const skbMarkWord = 2; // struct __sk_buff: len, pkt_type, mark
const skbBytes = 192;

const object = BpfObject.open(objectPath('loader'));
object.load();
after(() => object[Symbol.dispose]());

test('facts of a program', () => {
  const program = object.program('count_packet');
  assert.equal(program.type, programType.schedCls);
  assert.equal(program.name, 'count_packet');
  const info = program.info();
  assert.equal(info.id, program.id);
  assert.match(info.tag, /^[0-9a-f]{16}$/);
  assert.ok(info.loadedNs > 0n);
  assert.ok(info.verifiedInstructions > 0);
  assert.ok([...programIds()].includes(program.id));
  using byId = BpfProgram.openId(program.id);
  using byFd = BpfProgram.fromFd(program.fd);
  assert.equal(byId.info().tag, info.tag);
  assert.equal(byFd.info().tag, info.tag);
});

test('a test run gives verdict, packet and context back', () => {
  const program = object.program('count_packet');
  const packet = new Uint8Array(100).map((_, i) => i);
  const ctx = new Uint8Array(skbBytes);
  ctx.set(u32(41), 4 * skbMarkWord);
  const result = program.testRun({ data: packet, ctx, repeat: 1 });
  assert.equal(result.retval, 0xffff_ffff, 'TCX_NEXT');
  assert.equal(result.data.length, 100);
  assert.equal(result.data[0], 0x42);
  assert.deepEqual(result.data.subarray(1), packet.subarray(1));
  assert.equal(packet[0], 0, 'the input stays');
  assert.equal(readU32(result.ctx, skbMarkWord), 42);
  assert.equal(readU32(ctx, skbMarkWord), 41);
  assert.ok(program.testRun({ data: packet, repeat: 100 }).durationNs > 0);
});

test('a test run that does not fit throws', () => {
  const program = object.program('count_packet');
  assert.throws(
    () => program.testRun({ data: new Uint8Array(100), dataOutSize: 50 }),
    (error: unknown) => error instanceof BpfError && error.errnoName === 'ENOSPC',
  );
  assert.throws(() => program.testRun({ data: new Uint8Array(3) }), BpfError);
  assert.throws(() => program.testRun(), BpfError);
});

test('a syscall program reads and writes its context in place', () => {
  const compute = object.program('compute');
  const job = u32(20, 22, 0, 0);
  assert.equal(compute.runSyscall(job), 0);
  assert.equal(readU32(job, 2), 42);
  assert.equal(compute.runSyscall(u32(0, 1, 0, 0)), -22, 'its own return value, signed');
  const view = new Uint8Array(64);
  view.set(u32(1, 2), 16);
  assert.equal(compute.runSyscall(view.subarray(16, 32)), 0);
  assert.equal(readU32(view, 6), 3, 'a view into a larger buffer');
  const input = u32(1, 2, 0, 0);
  const result = compute.testRun({ ctx: input });
  assert.equal(readU32(result.ctx, 2), 3);
  assert.equal(readU32(input, 2), 0, 'testRun copies');
});

test('a context of a wrong size is refused, not overrun', () => {
  const compute = object.program('compute');
  assert.throws(() => compute.runSyscall(new Uint8Array(8)), BpfError);
  assert.throws(() => compute.runSyscall(new Uint8Array(0)), BpfError);
  assert.throws(() => compute.runSyscall(new Uint8Array(65_536)), RangeError);
  assert.throws(() => compute.runSyscall(new Uint32Array(4) as unknown as Uint8Array), TypeError);
  assert.throws(() => object.program('count_packet').runSyscall(new Uint8Array(16)), BpfError);
});

test('a syscall program writes maps and globals', () => {
  const sample = new Uint8Array(56);
  sample.set(u32(900, 5));
  assert.equal(object.program('store').runSyscall(sample), 0);
  const stored = object.map('table').lookup(u32(900));
  assert.ok(stored !== null);
  assert.equal(readU32(stored, 1), 5);
  assert.equal(readU32(stored, 12), 7, 'SAMPLE_PLAIN of .data');
});
