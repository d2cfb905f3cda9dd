// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { snapshotBytesMax } from '@tandem/proto/limits';
import { runScript } from '../test/child-process.ts';
import { temporaryDirectory } from '../test/temporary-directory.ts';
import { waitUntil } from '../test/wait-until.ts';
import {
  readSnapshotFile,
  type SnapshotFileError,
  syncSnapshotFile,
  writeSnapshotFile,
} from './snapshot-file.ts';
import { TandemError } from './tandem-error.ts';

async function readError(path: string): Promise<SnapshotFileError['kind']> {
  const result = await readSnapshotFile(path);
  assert.ok(!result.ok);
  assert.ok(result.error.message.includes(path), result.error.message);
  return result.error.kind;
}

test('what was written is read, with its mode, and nothing else lies there', async () => {
  using directory = temporaryDirectory();
  const path = join(directory.path, 'policy.snapshot');
  for (const length of [0, 1, 100_000]) {
    const payload = new Uint8Array(length).fill(length & 0xff);
    await writeSnapshotFile(path, payload, { groupId: process.getgid?.() ?? 0 });
    await syncSnapshotFile(path);
    const result = await readSnapshotFile(path);
    assert.ok(result.ok);
    assert.equal(Buffer.compare(result.value, payload), 0);
  }
  assert.equal(statSync(path).mode & 0o7777, 0o640);
  assert.deepEqual(readdirSync(directory.path), ['policy.snapshot']);
});

test('every single flipped bit, and every length that is too short, is noticed', async () => {
  using directory = temporaryDirectory();
  const path = join(directory.path, 'policy.snapshot');
  await writeSnapshotFile(path, Buffer.from('payload'));
  const good = readFileSync(path);
  for (let bit = 0; bit < good.length * 8; bit++) {
    const bad = Buffer.from(good);
    bad[bit >> 3] = bad[bit >> 3]! ^ (1 << (bit & 7));
    writeFileSync(path, bad);
    assert.equal((await readSnapshotFile(path)).ok, false, `bit ${bit}`);
  }
  writeFileSync(path, good);
  for (let length = good.length - 1; length >= 0; length--) {
    truncateSync(path, length);
    assert.equal(await readError(path), 'truncated');
  }
});

test('each way of being wrong has its name', async () => {
  using directory = temporaryDirectory();
  const path = join(directory.path, 'policy.snapshot');
  assert.equal(await readError(path), 'absent');
  assert.equal(await readError(directory.path), 'unreadable');
  assert.equal(await readError(join(directory.path, 'no', 'where')), 'absent');
  const pipe = join(directory.path, 'pipe');
  execFileSync('mkfifo', [pipe]);
  assert.equal(await readError(pipe), 'unreadable');

  await writeSnapshotFile(path, Buffer.from('payload'));
  const good = readFileSync(path);
  writeFileSync(path, Buffer.concat([good, Buffer.from('x')]));
  assert.equal(await readError(path), 'corrupt');
  writeFileSync(path, Buffer.alloc(200, 'x'));
  assert.equal(await readError(path), 'foreign');
  writeFileSync(path, Buffer.alloc(0));
  assert.equal(await readError(path), 'truncated');

  // A later format, correctly made: refused by its version, not as garbage.
  const later = Buffer.from(good);
  later.writeUInt32LE(2, 8);
  createHash('sha256').update(later.subarray(0, 24)).update('payload').digest().copy(later, 24);
  writeFileSync(path, later);
  assert.equal(await readError(path), 'version');

  writeFileSync(path, good);
  truncateSync(path, snapshotBytesMax + 57); // sparse
  assert.equal(await readError(path), 'oversized');
});

test('a write that fails leaves the old content and no temporary file', async () => {
  using directory = temporaryDirectory();
  const path = join(directory.path, 'policy.snapshot');
  mkdirSync(path);
  await assert.rejects(
    writeSnapshotFile(path, Buffer.from('x')),
    (error) => error instanceof TandemError && error.code === 'TANDEM_SNAPSHOT_WRITE',
  );
  assert.deepEqual(readdirSync(directory.path), ['policy.snapshot']);
  await assert.rejects(writeSnapshotFile(join(directory.path, 'no', 'x'), Buffer.from('x')));
  await assert.rejects(syncSnapshotFile(join(directory.path, 'no', 'x')), TandemError);
  const large = new Uint8Array(snapshotBytesMax + 1);
  await assert.rejects(writeSnapshotFile(path, large), /the limit is/);
});

test('temporary files of dead writers are removed, fresh ones and others stay', async () => {
  using directory = temporaryDirectory();
  const path = join(directory.path, 'policy.snapshot');
  const old = join(directory.path, '.policy.snapshot.1-aa.tmp');
  const fresh = join(directory.path, '.policy.snapshot.2-bb.tmp');
  const other = join(directory.path, '.other.1-aa.tmp');
  for (const file of [old, fresh, other]) writeFileSync(file, '');
  utimesSync(old, 0, 0);
  utimesSync(other, 0, 0);
  await writeSnapshotFile(path, Buffer.from('x'));
  assert.deepEqual(readdirSync(directory.path).toSorted(), [
    '.other.1-aa.tmp',
    '.policy.snapshot.2-bb.tmp',
    'policy.snapshot',
  ]);
});

/** Writes snapshots of one repeated byte, 1, 2, 3, ..., until it is killed. */
function writerScript(path: string): string {
  const module = new URL('./snapshot-file.ts', import.meta.url).href;
  return `
    const { writeSnapshotFile } = await import(${JSON.stringify(module)});
    for (let i = 1; ; i++) {
      await writeSnapshotFile(${JSON.stringify(path)}, new Uint8Array(2_000_000).fill(1 + i % 250));
      if (i === 1) console.log('writing');
    }`;
}

test('a writer killed at any moment leaves a whole snapshot', { timeout: 60_000 }, async () => {
  using directory = temporaryDirectory();
  const path = join(directory.path, 'policy.snapshot');
  for (let round = 0; round < 8; round++) {
    const child = runScript(writerScript(path));
    await waitUntil('the first is written', () => child.output().includes('writing'));
    // Kill it in another phase of the write each time: once there is a temporary file, or at once.
    const isTemporary = (name: string): boolean => name.endsWith('.tmp');
    if (round % 2 === 0) {
      await waitUntil('mid-write', () => readdirSync(directory.path).some(isTemporary));
    }
    child.process.kill('SIGKILL');
    await child.exited;
    const result = await readSnapshotFile(path);
    assert.ok(result.ok, result.ok ? '' : result.error.message);
    assert.equal(result.value.length, 2_000_000);
    assert.ok(result.value.every((byte) => byte === result.value[0]));
  }
});

test('a reader beside a writer sees whole snapshots only', async () => {
  using directory = temporaryDirectory();
  const path = join(directory.path, 'policy.snapshot');
  const child = runScript(writerScript(path));
  await waitUntil('the first is written', () => child.output().includes('writing'));
  const seen = new Set<number | undefined>();
  for (let round = 0; round < 100; round++) {
    const result = await readSnapshotFile(path);
    assert.ok(result.ok, result.ok ? '' : result.error.message);
    seen.add(result.value[0]);
  }
  assert.ok(seen.size > 1);
  child.process.kill('SIGKILL');
  await child.exited;
});
