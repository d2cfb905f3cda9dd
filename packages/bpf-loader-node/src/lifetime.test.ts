// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { countFds, NetworkNamespace, objectPath, runChild, u32 } from '../test/fixture.ts';
import { BpfError } from './errors.ts';
import { BpfMap, mapFlag, mapType } from './map.ts';
import { native } from './native.ts';
import { BpfObject } from './object.ts';
import { BpfProgram } from './program.ts';

const loaderPath = objectPath('loader');
const refusedPath = objectPath('refused');

test('opening and closing many times leaves no fd', () => {
  const once = (): void => {
    using object = BpfObject.open(loaderPath);
    object.load();
    using byFd = BpfMap.fromFd(object.map('table').fd);
    using program = BpfProgram.fromFd(object.program('compute').fd);
    assert.equal(byFd.keySize, 4);
    assert.equal(program.runSyscall(u32(1, 1, 0, 0)), 0);
  };
  once();
  const before = countFds();
  for (let i = 0; i < 30; i++) once();
  assert.equal(countFds(), before);
});

test('failures leave no fd', () => {
  const attempts: readonly (() => unknown)[] = [
    () => BpfObject.open('/etc/passwd'),
    () => BpfObject.open('/tmp'),
    () => BpfObject.open('/dev/null'),
    () => BpfMap.fromFd(0),
    () => BpfMap.openPinned('/sys/fs/bpf'),
    () => BpfProgram.openId(0x7fff_fff0),
    () =>
      BpfMap.create({ type: mapType.hash, name: 'bad', keySize: 0, valueSize: 0, maxEntries: 0 }),
    () => {
      using object = BpfObject.open(refusedPath);
      object.load();
    },
  ];
  for (const attempt of attempts) assert.throws(attempt, BpfError);
  const before = countFds();
  for (let i = 0; i < 20; i++) {
    for (const attempt of attempts) assert.throws(attempt, BpfError);
  }
  assert.equal(countFds(), before);
});

test('handles are bounded, and an old number does not reach a new handle', () => {
  const map = BpfMap.create({
    type: mapType.array,
    name: 'test_handles',
    keySize: 4,
    valueSize: 4,
    maxEntries: 1,
    flags: mapFlag.mmapable,
  });
  const stale = map.handle;
  map[Symbol.dispose]();
  using next = BpfMap.create({
    type: mapType.array,
    name: 'test_handles',
    keySize: 4,
    valueSize: 4,
    maxEntries: 1,
  });
  assert.notEqual(next.handle, stale);
  const value = new Uint8Array(4);
  assert.throws(
    () => native.mapLookup(stale, u32(0), value, 0),
    (error: unknown) => error instanceof BpfError && error.code === 'TANDEM_BPF_CLOSED',
  );
  native.handleClose(stale);
  assert.equal(next.lookupInto(u32(0), value), true, 'closing it again closed nothing else');
});

test('what is collected is released, and nothing that is in use', () => {
  using namespace = new NetworkNamespace();
  const { code, signal, output } = runChild('collected', [], {
    nodeFlags: ['--expose-gc'],
    namespace: namespace.name,
  });
  assert.equal(signal, null, output);
  assert.equal(code, 0, output);
});

test('workers: own logs, own handles, shared fds, released at their end', () => {
  const { code, signal, output } = runChild('workers');
  assert.equal(signal, null, output);
  assert.equal(code, 0, output);
});

const stages = ['imported', 'opened', 'loaded', 'refused', 'mapped', 'ring', 'batch', 'link'];

describe('a process ends cleanly at each stage', () => {
  for (const stage of stages) {
    for (const manner of ['exit', 'return', 'throw']) {
      test(`${stage}, ${manner}`, () => {
        using namespace = stage === 'link' ? new NetworkNamespace() : undefined;
        const { code, signal, output } = runChild(
          'stages',
          [manner, stage],
          namespace === undefined ? {} : { namespace: namespace.name },
        );
        assert.equal(signal, null, output);
        assert.equal(code, manner === 'throw' ? 7 : 0, output);
      });
    }
  }
});

describe('a worker ends cleanly at each stage', () => {
  for (const manner of ['worker-return', 'worker-exit', 'worker-terminate']) {
    test(manner, () => {
      using namespace = new NetworkNamespace();
      const { code, signal, output } = runChild('stages', [manner, ...stages], {
        namespace: namespace.name,
      });
      assert.equal(signal, null, output);
      assert.equal(code, 0, output);
    });
  }
});
