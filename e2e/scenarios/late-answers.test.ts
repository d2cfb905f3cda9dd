// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A server that takes long: resolvers wait for broken delegations longer than 5 s, and a pod that waits is to
 * get the answer, over UDP and over TCP.
 */

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { askDns } from '@tandem/testing/dns-query';
import { dnsPolicy } from '../kit/objects.ts';
import { clusterDns4, startStandardNode } from '../kit/standard-node.ts';

const delaysMs = [5500, 9000] as const;
const pattern = [{ matchPattern: '**.allowed.test' }];
const standard = await startStandardNode({
  rules: delaysMs.map((delayMs) => ({
    suffix: `after-${delayMs}.allowed.test`,
    answers: [{ type: 'A', data: '198.18.0.7' }],
    replies: [{ delayMs }],
  })),
  policies: [dnsPolicy({ selects: { app: 'client' }, dns: pattern, fqdns: pattern })],
});
after(() => standard[Symbol.asyncDispose]());

describe('an answer that comes late', { concurrency: true }, () => {
  for (const delayMs of delaysMs) {
    for (const transport of ['udp', 'tcp'] as const) {
      test(`after ${delayMs} ms over ${transport} is delivered`, async () => {
        const name = `n-1.after-${delayMs}.allowed.test`;
        const question = { server: clusterDns4, name, transport, timeoutMs: 12_000 } as const;
        const { rcode, addresses } = await askDns(standard.client, question);
        assert.deepEqual([rcode, addresses], ['NOERROR', ['198.18.0.7']]);
      });
    }
  }
});
