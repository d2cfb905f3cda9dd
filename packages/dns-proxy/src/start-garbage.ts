// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Collects what starting left behind in this thread's heap: the code of modules that ran once, the
 * snapshot's bytes. So little is allocated later that V8 would not do it for hours. Needs --expose-gc
 * (bin/tandem-dns-proxy, bin/tandem-agent); without, nothing happens. Takes some 20 ms: to be called while nobody waits.
 */
export function collectStartGarbage(): void {
  globalThis.gc?.({ type: 'major', execution: 'sync', flavor: 'last-resort' });
}
