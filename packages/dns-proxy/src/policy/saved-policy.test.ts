// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { encodePolicySnapshot } from '@tandem/proto/snapshot';
import { writeSnapshotFile } from '@tandem/runtime/snapshot-file';
import { readSavedPolicies } from './saved-policy.ts';

let directory: string;
let paths: { readonly run: string; readonly disk: string };

before(() => {
  directory = mkdtempSync(join(tmpdir(), 'tandem-saved-'));
  paths = { run: join(directory, 'run.snapshot'), disk: join(directory, 'disk.snapshot') };
});
after(() => rmSync(directory, { recursive: true, force: true }));
beforeEach(() => {
  for (const path of Object.values(paths)) rmSync(path, { force: true });
});

function policyOf(revision: number): Uint8Array {
  const encoded = encodePolicySnapshot({ revision });
  assert.ok(encoded.ok);
  return encoded.value;
}

/** Revisions by file; null: none; a text: its content. */
async function save(run: number | string | null, disk: number | string | null): Promise<void> {
  for (const [path, content] of [
    [paths.run, run],
    [paths.disk, disk],
  ] as const) {
    if (typeof content === 'string') writeFileSync(path, content);
    // oxlint-disable-next-line no-await-in-loop -- two files
    else if (content !== null) await writeSnapshotFile(path, policyOf(content));
  }
}

const cases: readonly (readonly [
  run: number | string | null,
  disk: number | string | null,
  newestFirst: readonly number[],
  problems: number,
])[] = [
  [null, null, [], 0],
  [null, 7, [7], 0],
  [7, null, [7], 0],
  [7, 7, [7], 0],
  [8, 7, [8, 7], 0],
  [7, 8, [8, 7], 0],
  ['garbage', 7, [7], 1],
  [7, 'garbage', [7], 1],
  ['garbage', 'garbage', [], 2],
  // A file that is whole, with a snapshot that says nothing.
  [0, 7, [7], 1],
];

for (const [run, disk, newestFirst, problems] of cases) {
  test(`in the run directory ${run}, on disk ${disk}: ${newestFirst.join(' then ') || 'none'}`, async () => {
    await save(run, disk);
    const saved = await readSavedPolicies(paths);
    assert.deepEqual(
      saved.snapshots.map((snapshot) => Buffer.from(snapshot)),
      newestFirst.map((revision) => Buffer.from(policyOf(revision))),
    );
    assert.equal(saved.problems.length, problems, saved.problems.join());
  });
}
