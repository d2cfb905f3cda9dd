// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Signals to one of the processes: the plainest faults. */

import { setTimeout as delay } from 'node:timers/promises';
import type { ProcessName } from '../../kit/tandem-node.ts';
import type { RunContext } from '../run.ts';

/** How long a process is stopped: six times what makes it stale. */
export const stopMs = 600;

export async function kill({ stage }: RunContext, victim: ProcessName): Promise<void> {
  await stage.tandem.kill(victim);
}

export async function stop(context: RunContext, victim: ProcessName): Promise<void> {
  const { stage } = context;
  stage.tandem.signal(victim, 'SIGSTOP');
  await delay(stopMs);
  stage.tandem.signal(victim, 'SIGCONT');
  context.mark('SIGCONT');
}

export async function terminate(context: RunContext, victim: ProcessName): Promise<void> {
  context.stage.tandem.signal(victim, 'SIGTERM');
  await context.stage.ended(victim);
  context.mark('ended');
}
