// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A registry of the distribution project, for the tests of a release. */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { startProcess } from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';
import { stringify } from 'yaml';
import { binary } from './programs.ts';

const startTimeoutMs = 20_000;

/** On a free port of the loopback interface, with its images below `directory`. */
export async function startRegistry(
  directory: string,
): Promise<AsyncDisposable & { readonly host: string }> {
  const file = join(directory, 'registry.yaml');
  const storage = { filesystem: { rootdirectory: join(directory, 'registry') } };
  writeFileSync(
    file,
    stringify({ version: 0.1, log: { level: 'info' }, storage, http: { addr: '127.0.0.1:0' } }),
  );
  const started = startProcess(binary('registry'), ['serve', file]);
  const port = await waitFor(() => /listening on 127\.0\.0\.1:(\d+)/.exec(started.stderr())?.[1], {
    what: 'the registry',
    timeoutMs: startTimeoutMs,
  });
  return { host: `127.0.0.1:${port}`, [Symbol.asyncDispose]: () => started.stop() };
}
