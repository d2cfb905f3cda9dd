// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const blockBytes = 16_384;
const blocks = 6000;

/** In a process of its own, whose blocks are below the threshold of mmap(2) and have a neighbour that stays. */
const program = `
  const { trimHeap } = await import(${JSON.stringify(fileURLToPath(new URL('memory.ts', import.meta.url)))});
  const rss = () => process.memoryUsage.rss();
  let freed = [];
  const kept = [];
  for (let i = 0; i < ${blocks}; i++) {
    freed.push(new ArrayBuffer(${blockBytes}));
    if (i % 100 === 0) kept.push(new ArrayBuffer(${blockBytes}));
  }
  for (const block of [...freed, ...kept]) new Uint8Array(block).fill(1);
  freed = [];
  // Another thread of V8 frees what a collection has found, and the next collection counts it.
  for (let turn = 0; turn < 500; turn++) {
    gc();
    if (process.memoryUsage().arrayBuffers < 2 * kept.length * ${blockBytes}) break;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  const before = rss();
  const isTrimmed = trimHeap();
  console.log(JSON.stringify({ isTrimmed, gained: before - rss(), again: trimHeap(), kept: kept.length }));
`;

test('pages between blocks that stay are given back', () => {
  const output = execFileSync(
    process.execPath,
    [
      ...['--conditions=@tandem/source', '--disable-warning=ExperimentalWarning', '--expose-gc'],
      ...['--input-type=module', '--eval', program],
    ],
    {
      encoding: 'utf8',
      env: { ...process.env, MALLOC_ARENA_MAX: '1', MALLOC_MMAP_THRESHOLD_: '32768' },
    },
  );
  const { isTrimmed, gained } = JSON.parse(output) as { isTrimmed: boolean; gained: number };
  assert.equal(isTrimmed, true);
  assert.ok(gained > (blocks * blockBytes) / 2, `${gained} octets`);
});
