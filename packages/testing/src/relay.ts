// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A port of a network namespace that leads to a unix socket, and so to a server in another namespace. */

import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Namespace } from './namespace.ts';
import { type RunningProcess, startProcess } from './process.ts';
import { waitFor } from './wait.ts';

/** At 127.0.0.1; connections end with the process. */
export async function startRelay(
  namespace: Namespace,
  port: number,
  path: string,
): Promise<RunningProcess> {
  // The source while developing, the built file from dist.
  const file = `./relay-child${extname(import.meta.url)}`;
  const script = fileURLToPath(new URL(file, import.meta.url));
  const relay = startProcess(...namespace.enter(process.execPath, [script, String(port), path]));
  await waitFor(() => relay.stdout().includes('listening'), { what: 'the relay to listen' });
  return relay;
}
