// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * One process killed, the other one goes on: known and new names, denials, the datapath. Both ways round,
 * under load. In the full tier the process is away for a minute.
 */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { askDns } from '@tandem/testing/dns-query';
import { waitForEqualCaches } from '../kit/admin.ts';
import { startLoad } from '../kit/load.ts';
import {
  clusterDns4,
  clusterDns6,
  type StandardNode,
  startStandardNode,
} from '../kit/standard-node.ts';
import type { ProcessName } from '../kit/tandem-node.ts';

const awaySeconds = process.env['TANDEM_TEST_TIER'] === 'full' ? 60 : 4;
const rate = 500;
/** Asked in turn; fewer than the name caches hold of a namespace, so that both must hold the same. */
const names = 6000;
let nextName = 10_000;

/** Checks what must hold with any process down. */
async function checkService({ client, dns, tandem }: StandardNode): Promise<void> {
  for (const [server, type] of [
    [clusterDns4, 'A'],
    [clusterDns6, 'AAAA'],
  ] as const) {
    for (const transport of ['udp', 'tcp'] as const) {
      const name = `n-${nextName++}.allowed.test`;
      const fresh = await askDns(client, { server, transport, type, name });
      assert.equal(fresh.rcode, 'NOERROR', `${transport} ${server} ${tandem.logs()}`);
      const [to] = fresh.addresses;
      assert.ok(to !== undefined);
      const stream = await client.tcp({ to, port: 80, data: 'x', want: 1 });
      assert.equal(stream.retransmits, 0, 'a new name is reachable at once');
      const denied = `n-${nextName++}.denied.test`;
      const refused = await askDns(client, { server, transport, type, name: denied });
      assert.equal(refused.rcode, 'REFUSED');
      assert.equal((await dns.queries(denied)).length, 0);
    }
  }
  const direct = client.tcp({ to: '198.19.7.7', port: 80, data: 'x', want: 1, timeoutMs: 300 });
  await assert.rejects(direct, /ETIMEDOUT/, 'what no name gave stays unreachable');
}

for (const [victim, survivor] of [
  ['agent', 'proxy'],
  ['proxy', 'agent'],
] as const satisfies readonly (readonly [ProcessName, ProcessName])[]) {
  describe(`${victim} killed`, () => {
    test(`for ${awaySeconds} s under ${rate} q/s`, async () => {
      await using standard = await startStandardNode();
      const { node, tandem, client } = standard;
      const known = await askDns(client, { server: clusterDns4, name: 'n-1.allowed.test' });
      const open = await client.connect({
        to: known.addresses[0] ?? '',
        port: 80,
        data: 'x',
        want: 1,
      });
      await using load = startLoad(node.pod('client').namespace, {
        server: clusterDns4,
        rate,
        seconds: awaySeconds + 6,
        nameFormat: 'n-%u.allowed.test',
        nameStart: 50_000,
        nameCount: names,
      });
      await tandem.kill(victim);
      const back = delay(awaySeconds * 1000);
      await checkService(standard);
      await open.exchange({ data: 'y', want: 1 });
      await tandem.waitForMembers([survivor]);
      await back;
      await checkService(standard);
      await tandem.startProcess(victim);
      const { sent, lost, rcodes } = await load.result;
      await tandem.waitForMembers(['agent', 'proxy']);
      await waitForEqualCaches(tandem, 5000);
      await checkService(standard);
      await open.exchange({ data: 'z', want: 1 });
      assert.equal(lost, 0, `${lost} of ${sent} lost`);
      assert.deepEqual(rcodes, { 0: sent });
    });
  });
}
