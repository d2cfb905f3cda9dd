// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { tryRun } from '@tandem/testing/process';
import { tdFqdn, tdFqdnSlot, tdGroup, tdLearnBatch, tdLearnRequest, tdMember } from './abi.gen.ts';

test('abi.gen.ts is what abi.h says', async () => {
  const script = fileURLToPath(new URL('../scripts/generate-abi.ts', import.meta.url));
  const args = ['--conditions=@tandem/source', script, '--check'];
  const { status, stderr } = await tryRun(process.execPath, args, { timeoutMs: 60_000 });
  assert.equal(status, 0, stderr);
});

test('layouts that versions of members share do not move', () => {
  assert.deepEqual(
    {
      group: [tdGroup.size, tdGroup.member, tdMember.size],
      words: [tdGroup.required_revision, tdGroup.generation, tdGroup.removals],
      member: [tdMember.beat_ns, tdMember.state, tdMember.pid, tdMember.epoch, tdMember.revision],
      fqdn: [tdFqdn.size, tdFqdn.slot, tdFqdnSlot.size],
      learn: [tdLearnRequest.size, tdLearnBatch.size],
    },
    {
      group: [640, 128, 128],
      words: [4, 8, 16],
      member: [0, 8, 12, 16, 24],
      fqdn: [232, 40, 12],
      learn: [48, 6144],
    },
  );
});
