// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A firewall of the node drops steered queries before the shared socket, or replies behind it. Pods have no DNS then,
 * and status says so through either process.
 */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { askDns } from '@tandem/testing/dns-query';
import { waitFor } from '@tandem/testing/wait';
import { degradedOf } from '../kit/admin.ts';
import { clusterDns4, type StandardNode, startStandardNode } from '../kit/standard-node.ts';

const boundMs = 60_000;
const code = 'steering-unanswered';
const dropping = (hook: string): string =>
  `table inet strict {
  chain everything {
    type filter hook ${hook} priority 0; policy drop;
    ct state { established, related } accept
    iifname "lo" accept
  }
}
`;

const obstacles = [
  { what: 'the queries', hook: 'input' },
  { what: 'the replies', hook: 'output' },
];

async function ask(client: StandardNode['client']): Promise<string | null> {
  const question = { server: clusterDns4, name: 'n-1.allowed.test', timeoutMs: 300 };
  const reply = await askDns(client, question).catch(() => null);
  return reply?.rcode ?? null;
}

async function says(isDegraded: boolean, { client, tandem }: StandardNode): Promise<boolean> {
  await ask(client);
  const found = await Promise.all(
    (['agent', 'proxy'] as const).map(async (name) => (await degradedOf(tandem, name)).has(code)),
  );
  return found.every((each) => each === isDegraded);
}

// Each waits half a minute, on a node of its own.
describe('a firewall of the node', { concurrency: true }, () => {
  for (const { what, hook } of obstacles) {
    test(`${what} are dropped: said by both processes until that is gone`, async () => {
      await using standard = await startStandardNode();
      const { node } = standard.node;
      assert.equal(await ask(standard.client), 'NOERROR');
      await node.run('nft', ['-f', '-'], dropping(hook));
      assert.equal(await ask(standard.client), null, 'no DNS');
      await waitFor(() => says(true, standard), { what: code, timeoutMs: boundMs });
      await node.run('nft', ['delete', 'table', 'inet', 'strict']);
      await waitFor(() => says(false, standard), { what: `no ${code}`, timeoutMs: boundMs });
      assert.equal(await ask(standard.client), 'NOERROR');
    });
  }
});
