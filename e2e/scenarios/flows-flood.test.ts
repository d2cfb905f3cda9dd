// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A flood of denied packets, more than the ring takes and more than the processes tell each other, while
 * the agent hangs: what each of them shows and what it tells is lost are what the kernel dropped.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { waitFor } from '@tandem/testing/wait';
import { FlowFollower } from '../kit/flow-follower.ts';
import { dropReader, waitForReader } from '../kit/flows.ts';
import { startStandardNode } from '../kit/standard-node.ts';

const denied = '198.19.7.7';
const port = 4000;
const floodRate = 20_000;
const floodSeconds = 3;
const settleTimeoutMs = 20_000;
/** Nothing more may come for so long. */
const stableMs = 3500;

test('a flood while the agent hangs: shown and told as lost are what was dropped', async () => {
  await using standard = await startStandardNode();
  const { tandem, client } = standard;
  await waitForReader(tandem, 'agent', 'proxy');
  await using agent = new FlowFollower(tandem, 'agent', port);
  await using proxy = new FlowFollower(tandem, 'proxy', port);
  const before_ = tandem.counters();
  const flood = client.blast({
    to: denied,
    port,
    data: 'data',
    count: floodRate * floodSeconds,
    rate: floodRate,
  });
  await delay(500);
  tandem.signal('agent', 'SIGSTOP');
  await delay(1500);
  tandem.signal('agent', 'SIGCONT');
  await flood;
  const after_ = tandem.counters();
  const delta = (name: string): number => (after_[name] ?? 0) - (before_[name] ?? 0);
  const dropped = delta('drop_no_match');
  const kernel = delta('events_lost') + delta('events_limited');
  assert.ok(kernel > 0, 'more than the ring takes');
  for (const [name, follower] of [
    ['agent', agent],
    ['proxy', proxy],
  ] as const) {
    const lost = (): number =>
      Object.values(follower.lost).reduce((sum, count) => sum + count, follower.overwritten);
    const state = async (): Promise<string> =>
      JSON.stringify({
        ...{ name, dropped, kernel, shown: follower.keys.size, lost: follower.lost },
        ...{ overwritten: follower.overwritten, reader: await dropReader(tandem, name) },
      });
    try {
      await waitFor(() => follower.keys.size + lost() === dropped, {
        what: 'all',
        timeoutMs: settleTimeoutMs,
      });
    } catch (error) {
      throw new Error(await state(), { cause: error });
    }
    await delay(stableMs);
    assert.equal(follower.keys.size + lost(), dropped, await state());
    assert.equal(follower.repeated, 0);
  }
});
