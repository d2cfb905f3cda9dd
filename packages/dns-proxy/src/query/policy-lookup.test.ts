// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Which generation of the endpoints a remembered flow is of. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { tdEndpoint } from '@tandem/datapath/abi.gen';
import { createSharedCounters } from '../counters.ts';
import { FlowTable } from '../policy/flow-table.ts';
import { QueryLimits } from '../policy/query-limits.ts';
import type { PolicyTables } from '../policy/tables.ts';
import { PolicyLookup } from './policy-lookup.ts';

test('a flow is forgotten if endpoints changed after its endpoint was read', () => {
  let endpointId = 5;
  const group = { generation: 2 };
  const limits = new QueryLimits(100);
  const lookup = new PolicyLookup({
    flows: new FlowTable(1, 16),
    limits,
    endpoints: {
      lookupInto: (_, value) => {
        const view = new DataView(value.buffer, value.byteOffset);
        view.setUint32(tdEndpoint.id, endpointId, true);
        view.setUint32(tdEndpoint.policy_id, 1, true);
        // The thread waits for a CPU here, while the agent gives the address to another pod.
        if (endpointId === 5) group.generation += 2;
        endpointId = 6;
        return true;
      },
    },
    self: { group, setRevision: () => undefined } as unknown as never,
    counters: createSharedCounters(),
  });
  const tables = { hasPolicy: () => true, ruleSetOf: () => 0, isTrusted: () => false };
  lookup.install({ ...tables, revision: 1 } as unknown as PolicyTables);
  const words = new Uint32Array(8);
  const endpointOf = (): number => {
    lookup.begin();
    const flow = lookup.flowOf(words, 0, 4, 17, 1000);
    return limits.endpoints.ownerId[lookup.flows.endpointSlot[flow]!]!;
  };
  assert.equal(endpointOf(), 5);
  assert.ok(!lookup.isStillOf(lookup.endpointsGeneration, 5, words, 0));
  assert.equal(endpointOf(), 6);
});
