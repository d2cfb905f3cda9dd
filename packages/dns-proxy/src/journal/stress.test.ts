// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Owner and taker at full speed on the same slots: each query is done once or more, none is mixed. */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { TD_JOURNAL_MEMBERS } from '@tandem/datapath/abi.gen';
import { ownPrefix } from '@tandem/testing/namespace';
import { run } from '@tandem/testing/process';
import type { OwnerResult, TakerResult } from '../../test/journal-stress.ts';
import { loadKernelMaps } from '../../test/kernel-maps.ts';
import { regionBytes } from './region.ts';

const child = new URL('../../test/journal-stress-child.ts', import.meta.url);
const milliseconds = 1500;
/** The taker goes on for a while, so that nothing is left behind by a late start of the owner. */
const sides = [
  ['owner', milliseconds],
  ['taker', milliseconds + 500],
] as const;

function check(how: string, owner: OwnerResult, taker: TakerResult): void {
  console.log(
    `${how}: ${owner.queries} queries, ${taker.claims} taken over (${taker.torn} as received), ${taker.mixed} mixed`,
  );
  assert.equal(taker.mixed, 0);
  assert.ok(taker.claims > 0 && owner.released > 0, 'both had their share');
  assert.equal(owner.released + taker.claims, owner.queries, 'each query ends once');
  assert.ok(owner.lost <= taker.claims);
}

test('two threads', async () => {
  const memory = new SharedArrayBuffer(TD_JOURNAL_MEMBERS * regionBytes);
  const results = await Promise.all(
    sides.map(async ([side, time]) => {
      const worker = new Worker(child, { workerData: { args: [side, time], memory } });
      const [result] = await once(worker, 'message');
      return result as unknown;
    }),
  );
  check('threads', results[0] as OwnerResult, results[1] as TakerResult);
});

test('two processes on the mapped map', async () => {
  using maps = loadKernelMaps();
  const pin = `/sys/fs/bpf/${ownPrefix}journal`;
  rmSync(pin, { force: true });
  maps.journal.pin(pin);
  try {
    const results = await Promise.all(
      sides.map(async ([side, time]) => {
        const flags = ['--conditions=@tandem/source', '--disable-warning=ExperimentalWarning'];
        const args = [...flags, fileURLToPath(child), side, String(time), pin];
        return JSON.parse((await run(process.execPath, args)).stdout) as unknown;
      }),
    );
    check('processes', results[0] as OwnerResult, results[1] as TakerResult);
  } finally {
    rmSync(pin, { force: true });
  }
});
