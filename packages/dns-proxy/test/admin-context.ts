// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A process's admin service without a kernel below: what reads maps fails, the rest is real. */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '@tandem/runtime/system-clock';
import type { AdminContext } from '../src/admin/context.ts';
import { createSharedCounters } from '../src/counters.ts';
import type { NodeStore } from '../src/store/node-store.ts';
import { Exchange } from '../src/sync/exchange.ts';

export function adminContext(store: NodeStore): AdminContext {
  const exchange = new Exchange({
    member: 1,
    epoch: 1000,
    version: 'test',
    cache: store.cache,
    sink: store,
  });
  return {
    role: 'dns-proxy',
    member: 1,
    clock: systemClock,
    startedMs: systemClock.monotonicMs(),
    store,
    exchange,
    exchangeError: () => '',
    policy: () => ({
      revision: 1,
      origin: 'agent',
      nodeName: 'node-1',
      createdUnixMs: 0,
      endpoints: 0,
      patterns: 0,
      policies: 0,
    }),
    get kernel(): never {
      throw new TypeError('this test has no kernel');
    },
    inUse: { until: () => 0 },
    dnsCounters: createSharedCounters(),
    drops: () => null,
    diagnostics: () => [],
    ownDegradations: () => [],
    ownNotes: () => [],
    interfaceNames: () => new Map(),
    ruleOf: (ruleId) =>
      ruleId === 8
        ? { text: 'ClusterNetworkPolicy/a: spec.egress[0]', tier: 'Admin tier' }
        : undefined,
    metricsText: async () => 'metrics',
  };
}

/** A directory for sockets: `using directory = socketDirectory()`. */
export function socketDirectory(): Disposable & { readonly path: string } {
  const path = mkdtempSync(join(tmpdir(), `tandem-dns-proxy-${process.pid}-`));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}
