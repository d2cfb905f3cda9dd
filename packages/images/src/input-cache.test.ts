// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { fetched, sha256Of, trim } from './input-cache.ts';
import type { Input } from './lock.ts';
import { inputCache } from './machine.ts';

let directory: string;
let cache: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'tandem-cache-test-'));
  cache = join(directory, 'cache');
});
afterEach(() => rmSync(directory, { recursive: true }));

/** Sets the time of the last use. */
function age(name: string, days: number): void {
  const time = new Date(Date.now() - days * 86_400_000);
  utimesSync(join(cache, name), time, time);
}

function input(name: string): Input {
  const path = join(directory, name);
  writeFileSync(path, name);
  return { name, version: '1', sha256: sha256Of(path) };
}

const download = (inputs: readonly Input[], to: string): void => {
  // A rename within the cache needs a file of the same file system.
  assert.equal(dirname(to), cache);
  for (const { name } of inputs) writeFileSync(join(to, `${name}_1.deb`), name);
};

test('a download is in a directory of its own in the cache, of which nothing stays', () => {
  const inputs = [input('one'), input('two')];
  const expected = inputs.map(({ sha256 }) => sha256).toSorted();
  fetched(inputs, cache, (missing, to) => {
    fetched(inputs, cache, (again, other) => {
      assert.notEqual(other, to);
      download(again, other);
    });
    download(missing, to);
  });
  assert.deepEqual(readdirSync(cache).toSorted(), expected);
  assert.throws(() =>
    fetched([input('three')], cache, () => {
      throw new Error('no network');
    }),
  );
  assert.deepEqual(readdirSync(cache).toSorted(), expected);
});

test('files of the lock stay, of others the last that were used, and leftovers for a day', () => {
  const inputs = ['locked', 'older', 'old', 'fresh'].map(input);
  const [locked, older, old, fresh] = inputs.map(({ sha256 }) => sha256);
  fetched(inputs, cache, download);
  for (const [name = '', days] of [
    [locked, 9],
    [older, 8],
    [old, 7],
  ] as const)
    age(name, days);
  for (const [name, days] of [
    ['new-left', 2],
    ['new-running', 0],
    [`${locked}.17`, 2],
  ] as const) {
    mkdirSync(join(cache, name));
    age(name, days);
  }
  trim(cache, inputs.slice(0, 1), 2);
  assert.deepEqual(readdirSync(cache).toSorted(), [locked, old, fresh, 'new-running'].toSorted());
  // A use makes it the last one.
  fetched(inputs.slice(2, 3), cache, download);
  trim(cache, [], 1);
  assert.deepEqual(readdirSync(cache).toSorted(), [old, 'new-running'].toSorted());
});

test('a full cache that is mounted read-only is used', () => {
  const inputs = [input('one')];
  const paths = fetched(inputs, cache, download);
  execFileSync('mount', ['--bind', '-o', 'ro', cache, cache]);
  try {
    writeFileSync(join(cache, 'new'), '');
  } catch {
    assert.deepEqual(fetched(inputs, cache, download), paths);
    trim(cache, [], 0);
    assert.equal(readdirSync(cache).length, 1);
    return;
  } finally {
    execFileSync('umount', [cache]);
  }
  assert.fail('the mount is not read-only');
});

test('an empty XDG_CACHE_HOME is none', () => {
  assert.equal(inputCache(''), join(homedir(), '.cache/tandem/images'));
  assert.equal(inputCache('/cache'), '/cache/tandem/images');
});
