// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The group, read until its heartbeats show which process runs: one late heartbeat on a busy machine proves nothing. */

import { setTimeout as delay } from 'node:timers/promises';
import type { Result } from '@tandem/core/result';
import { beatReadPauseMs, beatReadsMax, deadBeatMs } from '../limits.ts';
import { type GroupView, readGroup } from './pins.ts';

/** As `readGroup`; a stale beat is what all of several reads called stale. */
export async function readSettledGroup(bpffsDir: string): Promise<Result<GroupView, string>> {
  let group = readGroup(bpffsDir);
  for (let reads = 1; reads < beatReadsMax && group.ok && hasDoubt(group.value); reads++) {
    await delay(beatReadPauseMs);
    group = readGroup(bpffsDir);
  }
  return group;
}

/** A live member's beat is late, yet not so late that it must be dead. */
function hasDoubt({ members }: GroupView): boolean {
  return members.some(
    ({ state, isServing, beatAgeMs }) => state === 'live' && !isServing && beatAgeMs < deadBeatMs,
  );
}
