// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import { once } from 'node:events';
import type { Server } from 'node:net';

/**
 * Calls `begin`, which has the server listen, and resolves when it does. A server is tried again for as long as its address is taken: no
 * attempt leaves a listener of its events behind. @throws what `begin` throws, or the server's error
 */
export async function listening(server: Server, begin: () => void): Promise<void> {
  const abort = new AbortController();
  const listened = once(server, 'listening', { signal: abort.signal });
  // Of `begin` that throws.
  listened.catch(() => undefined);
  try {
    begin();
    await listened;
  } finally {
    abort.abort();
  }
}
