// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { objectPath, PinDirectory, readU32, u32 } from '../test/fixture.ts';
import { BpfError } from './errors.ts';
import { mapType } from './map.ts';
import { BpfObject } from './object.ts';
import { programType } from './program.ts';

const loaderPath = objectPath('loader');

function hasCode(code: string): (error: unknown) => boolean {
  return (error) => error instanceof BpfError && error.code === code;
}

test('open names what is wrong with a file', (t) => {
  assert.throws(
    () => BpfObject.open('/nonexistent/x.bpf.o'),
    (error: unknown) =>
      error instanceof BpfError &&
      error.code === 'TANDEM_BPF_OPEN' &&
      error.errnoName === 'ENOENT' &&
      error.object === '/nonexistent/x.bpf.o',
  );
  assert.throws(() => BpfObject.open('/tmp'), hasCode('TANDEM_BPF_OPEN'));
  assert.throws(
    () => BpfObject.open('/etc/passwd'),
    (error: unknown) => error instanceof BpfError && /elf/i.test(error.libbpfLog ?? ''),
  );
  const whole = readFileSync(loaderPath);
  const path = join(tmpdir(), `tandem-loader-test-${process.pid}.o`);
  t.after(() => rmSync(path));
  for (const length of [1, 63, 64, 100, whole.length >> 1]) {
    writeFileSync(path, whole.subarray(0, length));
    assert.throws(() => BpfObject.open(path), hasCode('TANDEM_BPF_OPEN'), `${length} bytes`);
  }
});

test('declarations are known before load, with sections that libbpf 1.1 does not know', () => {
  using object = BpfObject.open(loaderPath, { name: 'renamed' });
  const programs = new Map(object.programs().map((program) => [program.name, program]));
  const table: readonly (readonly [string, number, number])[] = [
    ['count_packet', programType.schedCls, 46],
    ['other_packet', programType.schedCls, 47],
    ['accept_all', programType.netfilter, 45],
    ['allow_bind4', programType.cgroupSockAddr, 8],
    ['allow_bind6', programType.cgroupSockAddr, 9],
    ['select_second', programType.skReuseport, 39],
    ['compute', programType.syscall, 0],
  ];
  for (const [name, type, attachType] of table) {
    assert.equal(programs.get(name)?.type, type, name);
    assert.equal(programs.get(name)?.expectedAttachType, attachType, name);
    assert.equal(programs.get(name)?.autoload, true, name);
  }
  const maps = new Map(object.maps().map((map) => [map.name, map]));
  assert.equal(maps.get('table')?.valueSize, 56);
  assert.equal(maps.get('trie')?.type, mapType.lpmTrie);
  assert.ok(maps.has('renamed.rodata'));
});

test('before load there are no maps and programs to take out', () => {
  using object = BpfObject.open(loaderPath);
  assert.throws(() => object.map('table'), hasCode('TANDEM_BPF_STATE'));
  assert.throws(() => object.program('compute'), hasCode('TANDEM_BPF_STATE'));
  assert.throws(() => object.map('no_such_map'), hasCode('TANDEM_BPF_NOT_FOUND'));
  assert.throws(() => object.program('no_such'), hasCode('TANDEM_BPF_NOT_FOUND'));
});

test('read-only data is set by variable name and size', () => {
  using object = BpfObject.open(loaderPath);
  assert.throws(() => object.setRodata('config', u32(1)), RangeError);
  assert.throws(() => object.setRodata('config', u32(1, 2, 3)), RangeError);
  assert.throws(() => object.setRodata('last_kind', u32(1)), hasCode('TANDEM_BPF_NOT_FOUND'));
  object.setRodata('config', u32(42, 7));
  object.setRodata('single', Uint8Array.of(9));
  object.load();
  const job = u32(2, 3, 0, 0);
  assert.equal(object.program('compute').runSyscall(job), 0);
  assert.equal(readU32(job, 2), 5);
  assert.equal(readU32(job, 3), 42);
  assert.throws(() => object.setRodata('config', u32(1, 1)), hasCode('TANDEM_BPF_STATE'));
  assert.deepEqual([...(object.map('.rodata').lookup(u32(0)) ?? [])], [...u32(42, 7), 9]);
});

test('what changes a declaration works before load only', () => {
  using object = BpfObject.open(loaderPath);
  object.setMaxEntries('table', 17);
  object.setAutoload('store', false);
  object.load();
  assert.equal(object.map('table').maxEntries, 17);
  assert.throws(() => object.program('store'), hasCode('TANDEM_BPF_STATE'));
  assert.throws(() => object.setMaxEntries('table', 18), hasCode('TANDEM_BPF_STATE'));
  assert.throws(() => object.setAutoload('store', true), hasCode('TANDEM_BPF_STATE'));
  assert.throws(() => object.load(), hasCode('TANDEM_BPF_LOAD'));
});

test('a refused program comes with the end of the verifier log', () => {
  using object = BpfObject.open(objectPath('refused'));
  assert.throws(
    () => object.load(),
    (error: unknown) => {
      assert.ok(error instanceof BpfError);
      assert.equal(error.code, 'TANDEM_BPF_LOAD');
      assert.equal(error.errnoName, 'EACCES');
      assert.match(error.verifierLog ?? '', /^0: R1=ctx[\s\S]*invalid access to packet, off=60/);
      assert.match(error.message, /invalid access to packet/);
      assert.match(error.libbpfLog ?? '', /prog 'reads_too_far'/);
      // Loggers print enumerable fields: the log is not one.
      assert.ok(!JSON.stringify(error).includes('invalid access'));
      return true;
    },
  );
});

test('struct fields are relocated to the running kernel (CO-RE)', () => {
  using object = BpfObject.open(loaderPath);
  object.load();
  const identity = u32(0, 0, 1);
  assert.equal(object.program('identify').runSyscall(identity), 0);
  assert.equal(readU32(identity, 0), process.pid);
  assert.notEqual(readU32(identity, 1), 0, 'tgid is at offset 0 only in the object');
  assert.equal(readU32(identity, 2), 0, 'a field that no kernel has');
});

test('a pinned map is used again only in the same shape', () => {
  using pins = new PinDirectory();
  {
    using first = BpfObject.open(loaderPath);
    first.load();
    first.map('shared').update(u32(3), new Uint8Array(8).fill(7));
    first.map('shared').pin(`${pins.path}/shared`);
    assert.throws(
      () => first.map('shared').pin(`${pins.path}/shared`),
      hasCode('TANDEM_BPF_EXISTS'),
    );
    first.program('compute').pin(`${pins.path}/compute`);
  }
  using second = BpfObject.open(loaderPath);
  assert.throws(
    () => second.reusePin('shared', `${pins.path}/none`),
    hasCode('TANDEM_BPF_NOT_FOUND'),
  );
  assert.throws(
    () => second.reusePin('counters', `${pins.path}/shared`),
    hasCode('TANDEM_BPF_MISMATCH'),
  );
  assert.throws(
    () => second.reusePin('shared', `${pins.path}/compute`),
    hasCode('TANDEM_BPF_MISMATCH'),
  );
  second.setMaxEntries('shared', 15);
  assert.throws(
    () => second.reusePin('shared', `${pins.path}/shared`),
    hasCode('TANDEM_BPF_MISMATCH'),
  );
  second.setMaxEntries('shared', 16);
  second.reusePin('shared', `${pins.path}/shared`);
  second.load();
  assert.equal(second.map('shared').lookup(u32(3))?.[0], 7);
  assert.throws(
    () => second.reusePin('shared', `${pins.path}/shared`),
    hasCode('TANDEM_BPF_STATE'),
  );
});

test('a map keeps the name that the object declares, whatever the kernel calls the pin that is reused', () => {
  using pins = new PinDirectory();
  {
    using first = BpfObject.open(loaderPath);
    first.load();
    first.map('twin').update(u32(3), new Uint8Array(8).fill(7));
    first.map('twin').pin(`${pins.path}/twin`);
  }
  using second = BpfObject.open(loaderPath);
  const declared = second.maps();
  // libbpf calls the map by the kernel's name of the pin: none at all where it took the kernel for one without names
  second.reusePin('shared', `${pins.path}/twin`);
  assert.deepEqual(second.maps(), declared);
  second.load();
  assert.equal(second.map('shared').lookup(u32(3))?.[0], 7);
  assert.equal(second.map('twin').lookup(u32(3))?.[0], 0, 'its own');
});

test('disposing an object disposes what was taken out of it, loudly', () => {
  const object = BpfObject.open(loaderPath);
  object.load();
  const table = object.map('table');
  const compute = object.program('compute');
  assert.equal(object.map('table'), table, 'one wrapper for each map');
  object.map('trie')[Symbol.dispose]();
  assert.equal(object.map('trie').lookup(new Uint8Array(8)), null, 'a new one after its end');
  object[Symbol.dispose]();
  object[Symbol.dispose]();
  const closed = hasCode('TANDEM_BPF_CLOSED');
  assert.throws(() => table.lookup(u32(1)), closed);
  assert.throws(() => table.fd, closed);
  assert.throws(() => compute.runSyscall(u32(0, 0, 0, 0)), closed);
  assert.throws(() => object.map('table'), closed);
  assert.throws(() => object.load(), closed);
});
