// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inTurns } from './ask-nodes.ts';
import { Kubectl } from './kubectl.ts';
import { nodesAtOnce } from './limits.ts';

const shell = (signal: AbortSignal, script: string): Kubectl =>
  new Kubectl({ flags: ['-c', script], timeoutMs: 60_000, signal, program: '/bin/sh' });

test('an interrupt ends what runs, and nothing is begun after it', async () => {
  const abort = new AbortController();
  const kubectl = shell(abort.signal, 'exec sleep 60');
  let asked = 0;
  const nodes = Array.from({ length: 10 * nodesAtOnce }, (_, index) => String(index));
  const asking = inTurns(nodes, async (node) => {
    asked += 1;
    return await kubectl.run([node]);
  });
  abort.abort();
  await assert.rejects(asking, /^TandemError: interrupted$/);
  assert.ok(asked <= 2 * nodesAtOnce, `${asked} nodes`);
  await assert.rejects(kubectl.runOnTerminal([]), /interrupted/);
  const after = await shell(abort.signal, 'echo done').withoutSignal().run([]);
  assert.deepEqual([after.code, after.stdout], [0, 'done\n'], 'what clears up is run');
});
