// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { ownPrefix } from '@tandem/testing/namespace';
import { bpffsMountCommand, isInBpffs, makeDirectory, shareDirectory } from './directories.ts';

const proxyUid = 65_532;
let directory: string;
let umask: number;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), `${ownPrefix}directories-`));
  umask = process.umask(0o077);
});
afterEach(() => {
  process.umask(umask);
  rmSync(directory, { recursive: true, force: true });
});

const modeOf = (path: string): number => statSync(path).mode & 0o7777;

test('directories have their mode and owner under umask 077, also those that were there', () => {
  const made = join(directory, 'a', 'b');
  shareDirectory(made, 0, proxyUid);
  assert.equal(modeOf(made), 0o750);
  assert.equal(modeOf(join(directory, 'a')), 0o750, 'the one above, too');
  assert.equal(statSync(made).gid, proxyUid);
  const closed = join(directory, 'closed');
  mkdirSync(closed);
  chmodSync(closed, 0o2700);
  shareDirectory(closed, proxyUid, proxyUid);
  assert.equal(modeOf(closed), 0o2750);
  assert.equal(statSync(closed).uid, proxyUid);
  const open = join(directory, 'open');
  mkdirSync(open);
  chmodSync(open, 0o1777);
  shareDirectory(open, 0, proxyUid);
  assert.equal(modeOf(open), 0o1777, 'nothing is taken from others: it may be /tmp');
});

test('a parent that takes no entry is an error, not a loop without end', () => {
  // Node.js' recursive mkdir never returns here, so this is a process of its own.
  const script = `
    const { makeDirectory } = await import(${JSON.stringify(new URL('./directories.ts', import.meta.url).href)});
    try { makeDirectory('/proc/tandem/shared'); } catch (error) { process.stdout.write(error.code); }`;
  const node = ['--conditions=@tandem/source', '--input-type=module', '-e', script];
  const { stdout } = spawnSync(process.execPath, node, { encoding: 'utf8', timeout: 10_000 });
  assert.equal(stdout, 'ENOENT');
});

test('what is a file stays one', () => {
  assert.throws(() => makeDirectory('/dev/null/x'), { code: 'ENOTDIR' });
});

test('a bpffs is told from other file systems, and the command mounts one where it is missing', () => {
  assert.equal(isInBpffs('/sys/fs/bpf/tandem-absent/shared'), true);
  assert.equal(isInBpffs(join(directory, 'absent')), false);
  assert.equal(bpffsMountCommand('/sys/fs/bpf/tandem'), 'mount -t bpf bpf /sys/fs/bpf');
  const place = join(directory, 'bpf');
  const command = `${bpffsMountCommand(place)} && stat -f -c %T ${place}`;
  const { stdout } = spawnSync('unshare', ['--mount', 'sh', '-c', command], { encoding: 'utf8' });
  assert.equal(stdout.trim(), 'bpf_fs');
});
