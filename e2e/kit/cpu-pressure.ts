// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Programs that want all CPUs, beside which a test runs: what a busy node gives to the processes under test. */

import { fileURLToPath } from 'node:url';
import { type RunningProcess, startProcess } from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';

const tool = fileURLToPath(new URL('../bench/native/build/burn', import.meta.url));

/** `perCpu` threads of ordinary priority that compute on each CPU, until it is disposed of. */
export async function startCpuPressure(perCpu: number): Promise<AsyncDisposable> {
  const burners = Array.from({ length: perCpu }, () => startProcess(tool, ['--percent', '100']));
  const dispose = async (): Promise<void> => {
    await Promise.all(burners.map((burner: RunningProcess) => burner.stop()));
  };
  await waitFor(() => burners.every((burner) => burner.stdout().includes('ready')), {
    what: 'burners to compute',
    timeoutMs: 10_000,
  });
  return { [Symbol.asyncDispose]: dispose };
}
