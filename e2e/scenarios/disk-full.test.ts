// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A full disk does not stop policy, and what it kept from being written does not come back later: an agent
 * that starts with an older snapshot gives no revision number twice, and its members get what is new.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { askDns } from '@tandem/testing/dns-query';
import { waitFor } from '@tandem/testing/wait';
import { diskBytes, fillDisk } from '../chaos/faults/resources.ts';
import { dnsPolicy } from '../kit/objects.ts';
import { clusterDns4, standardRules, startStandardNode } from '../kit/standard-node.ts';

const policyFor = (suffix: string): object => {
  const names = [{ matchPattern: `*.${suffix}` }];
  return dnsPolicy({ name: 'changing', selects: { app: 'client' }, dns: names, fqdns: names });
};

test('a policy that was never saved, another one while the agent is dead: both members have it', async () => {
  await using standard = await startStandardNode({
    diskBytes,
    rules: [
      { suffix: 'second.test', numbered: { ipv4: '198.18.0.0', ttl: 60 } },
      { suffix: 'third.test', numbered: { ipv4: '198.18.0.0', ttl: 60 } },
      ...standardRules,
    ],
  });
  const { tandem, client } = standard;
  const rcodeOf = async (name: string): Promise<string> =>
    (await askDns(client, { server: clusterDns4, name })).rcode;
  assert.equal(await rcodeOf('n-1.allowed.test'), 'NOERROR');
  let before = tandem.appliedRevision();
  {
    await using _full = fillDisk(tandem);
    tandem.write('policy.yaml', [policyFor('second.test')]);
    before = await tandem.waitForRevision(before);
    assert.equal(await rcodeOf('n-1.second.test'), 'NOERROR');
    await tandem.kill('agent');
  }
  tandem.write('policy.yaml', [policyFor('third.test')]);
  await tandem.startProcess('agent');
  const now = await tandem.waitForRevision(before);
  assert.ok(now > before, `revision ${now} after ${before}`);
  await tandem.waitForMembers(['agent', 'proxy']);
  // Each query from another port, so that both members are asked.
  for (let i = 0; i < 30; i++) {
    assert.equal(await rcodeOf(`n-${i}.third.test`), 'NOERROR', tandem.logs());
    assert.equal(await rcodeOf(`n-${i}.second.test`), 'REFUSED', tandem.logs());
  }
});

test('a snapshot that found no room is written when there is some', async () => {
  await using standard = await startStandardNode({ diskBytes });
  const { tandem } = standard;
  const before = tandem.appliedRevision();
  const log = (): string => tandem.process('agent').stderr();
  {
    await using _full = fillDisk(tandem);
    tandem.write('policy.yaml', [policyFor('other.test')]);
    await tandem.waitForRevision(before);
    assert.match(log(), /the policy snapshot could not be written/);
  }
  await waitFor(() => log().includes('policy snapshot written'), {
    what: 'the snapshot',
    timeoutMs: 10_000,
  });
});
