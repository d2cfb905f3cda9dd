// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { afterEach, test } from 'node:test';
import { proxyMember } from '@tandem/datapath/member';
import { pinPaths } from '@tandem/datapath/paths';
import { makeDirectories } from '@tandem/datapath/pins';
import { PathLock } from '@tandem/dns-sockets/lock';
import { takeAllIndexes } from './remove.ts';

// As tests of the loader name what they make in bpffs: ./run test looks for what is left of them.
const pinRoot = `/sys/fs/bpf/tandem-loader-test-${process.pid}`;
const said: string[] = [];
const log = { info: (message: string): void => void said.push(message) };
afterEach(() => {
  rmSync(pinRoot, { recursive: true, force: true });
  said.length = 0;
});

test('nothing is removed while a process of Tandem runs, and none begins meanwhile', async () => {
  const paths = pinPaths(pinRoot);
  makeDirectories(paths);
  const proxy = PathLock.tryTake(paths.member(proxyMember));
  assert.ok(proxy !== null);
  await assert.rejects(takeAllIndexes(pinRoot, log, 200), /a process of Tandem runs on this node/);
  assert.equal(said.length, 1, 'it says that it waits, once');
  assert.ok(!PathLock.isHeld(paths.member(0)), 'an agent may start when it has given up');
  proxy[Symbol.dispose]();
  const locks = await takeAllIndexes(pinRoot, log, 200);
  assert.equal(PathLock.tryTake(paths.member(0)), null, 'no agent starts meanwhile');
  for (const lock of locks) lock[Symbol.dispose]();
});

test('it goes on as soon as the last process has ended', async () => {
  const paths = pinPaths(pinRoot);
  makeDirectories(paths);
  const agent = PathLock.tryTake(paths.member(0));
  assert.ok(agent !== null);
  const taking = takeAllIndexes(pinRoot, log, 30_000);
  agent[Symbol.dispose]();
  for (const lock of await taking) lock[Symbol.dispose]();
});
