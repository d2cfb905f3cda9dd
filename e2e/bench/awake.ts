// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Keeps the CPUs from idling while latency is measured. On a virtual machine the wake-up of an idle CPU
 * waits for the host, up to tens of milliseconds, which would drown the subjects' own tails. The busy loop
 * on each CPU is of the class SCHED_IDLE: it runs when no other thread wants to.
 */

import { runShort, startProcess } from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';
import { tool } from './subjects.ts';

export async function keepAwake(): Promise<AsyncDisposable> {
  const loops = startProcess(tool('burn'), ['--percent', '100']);
  try {
    await waitFor(() => loops.stdout().includes('ready'), { what: 'the busy loops' });
    await runShort('chrt', ['--all-tasks', '--idle', '--pid', '0', String(loops.pid)]);
  } catch (error) {
    await loops[Symbol.asyncDispose]();
    throw error;
  }
  return loops;
}
