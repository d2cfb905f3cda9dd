// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import { trimHeap } from '@tandem/dns-sockets/memory';

/**
 * Collects what starting left behind in this thread's heap: the code of modules that ran once, the snapshot's bytes.
 * So little is allocated later that V8 would not do it for hours. The free pages of the C heap go back to the kernel too:
 * changes of policy leave tens of MiB there. Needs --expose-gc (bin/tandem-dns-proxy, bin/tandem-agent); without, the
 * heap stays. Takes some 20 ms: to be called while no query waits.
 */
export function collectStartGarbage(): void {
  globalThis.gc?.({ type: 'major', execution: 'sync', flavor: 'last-resort' });
  trimHeap();
}
