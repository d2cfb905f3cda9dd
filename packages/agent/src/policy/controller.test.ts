// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** When the endpoints of a policy are seen by the gate, which lets their pods start. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { StableIds } from '@tandem/core/policy/model/stable-ids';
import { tdGroup } from '@tandem/datapath/abi.gen';
import { Changes, loopTimers, wait } from '@tandem/runtime/task';
import { bareNode, podOf, policyOf, type Raw } from '../../test/node-fixture.ts';
import { ClusterBuilder } from './cluster-builder.ts';
import { type ControllerOptions, PolicyController } from './controller.ts';

const raws: readonly Raw[] = [
  { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop' } },
  podOf(0),
  policyOf(0, {
    endpointSelector: { matchLabels: { app: 'a0' } },
    egress: [{ toCIDR: ['198.51.100.1/32'] }],
  }),
];

/** Maps that take everything; all else answers at once. */
function options(ensureJudging: () => void): ControllerOptions {
  const group = new ArrayBuffer(tdGroup.size);
  const nothing = (): void => undefined;
  const table = {
    ...{ fits: () => true, differs: () => true, compare: () => false, entries: () => [] },
    ...{ add: nothing, prune: nothing, remove: nothing },
  };
  const map = { maxEntries: 1000, mmap: () => group, entries: () => [] };
  return {
    datapath: { map: () => map, table: () => table, ensureJudging },
    attacher: {
      plan: (endpoints: readonly unknown[]) => ({ endpoints, entries: [], diagnostics: [] }),
      attach: () => [],
    },
    server: { publish: nothing, isAcknowledged: () => true, changes: new Changes() },
    completePatterns: () => ({ compiledMatcher: new Uint8Array(0), rejected: [] }),
    install: () => wait(undefined),
    backfill: () => wait(undefined),
    timers: loopTimers,
    randomBelow: () => 0,
    redirects: { apply: nothing },
    keeper: { loadIds: () => StableIds.empty(), keep: nothing, keepIds: nothing },
    log: { debug: nothing, info: nothing, warn: nothing, error: nothing },
    quotaNamespace: 1000,
    nodeContext: () => bareNode,
    served: null,
  } as unknown as ControllerOptions;
}

test('while judge cannot be attached the gate sees no endpoint: the pod would start without policy', async () => {
  let fault: Error | null = new Error('no such hook');
  const controller = new PolicyController(
    options(() => {
      if (fault !== null) throw fault;
    }),
  );
  const objects = raws.map((raw, i) => ({
    ...{ file: 'f', document: i + 1, line: i, raw, damage: null },
  }));
  const codes = (): string[] => controller.diagnostics.map(({ code }) => code);
  await controller.update(new ClusterBuilder().build({ objects, problems: [] }));
  assert.deepEqual([controller.endpoints.length, codes()], [0, ['apply-failed']]);
  fault = null;
  await controller.reconcile();
  assert.deepEqual([controller.endpoints.length, codes()], [1, []]);
});
