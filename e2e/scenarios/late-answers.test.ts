// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A server that takes long: resolvers wait for broken delegations longer than 5 s, and a pod that waits is to
 * get the answer, over UDP and over TCP. So it is when the member that asked was stopped meanwhile: the other one
 * asks anew, and whichever answer comes first is delivered.
 */

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { askDns } from '@tandem/testing/dns-query';
import type { DnsRule } from '@tandem/testing/dns-script';
import { waitFor } from '@tandem/testing/wait';
import { counterOf } from '../kit/admin.ts';
import { dnsPolicy } from '../kit/objects.ts';
import { clusterDns4, startStandardNode } from '../kit/standard-node.ts';

const delaysMs = [5500, 9000] as const;
/** Long enough that the member is stopped before it. */
const takenOverMs = 3000;
const slowRule = (delayMs: number, prefix = ''): DnsRule => ({
  suffix: `${prefix}after-${delayMs}.allowed.test`,
  answers: [{ type: 'A', data: '198.18.0.7' }],
  replies: [{ delayMs }],
});
const pattern = [{ matchPattern: '**.allowed.test' }];
const standard = await startStandardNode({
  rules: [...delaysMs, takenOverMs].map((delayMs) => slowRule(delayMs)),
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

test('the answer to a query that was taken over is delivered by the member that got it', async () => {
  const { client, dns, tandem } = standard;
  const name = `n-1.after-${takenOverMs}.allowed.test`;
  const replayed = (): Promise<number> =>
    counterOf(tandem, 'agent', 'tandem_dns_queries_replayed_total');
  const replayedBefore = await replayed();
  // Of so many, from as many ports, some are the proxy's.
  const answers = Array.from({ length: 12 }, () =>
    askDns(client, { server: clusterDns4, name, timeoutMs: 12_000 }),
  );
  await waitFor(async () => (await dns.queries(name)).length === answers.length, {
    what: 'the server to be asked',
  });
  // Whoever asks anew gets nothing; `other` is answered after all of those above.
  const other = `n-2.after-${takenOverMs}.allowed.test`;
  await dns.program([slowRule(takenOverMs, 'n-2.'), { suffix: 'allowed.test', replies: [] }]);
  tandem.signal('proxy', 'SIGSTOP');
  try {
    await waitFor(async () => (await replayed()) > replayedBefore, {
      what: 'the agent to take queries over',
    });
    await askDns(client, { server: clusterDns4, name: other, timeoutMs: 12_000 });
  } finally {
    tandem.signal('proxy', 'SIGCONT');
  }
  const rcodes = (await Promise.all(answers)).map(({ rcode }) => rcode);
  assert.deepEqual(rcodes, Array<string>(answers.length).fill('NOERROR'));
});
