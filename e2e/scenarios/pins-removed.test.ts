// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Another process removes the pins under running processes. The agent holds what enforces: no pod under policy is open, and
 * status says what to do; after that all is as before.
 */

import assert from 'node:assert/strict';
import { existsSync, unlinkSync } from 'node:fs';
import { test } from 'node:test';
import { removePins } from '@tandem/datapath/datapath';
import { pinPaths } from '@tandem/datapath/paths';
import { exitCodes } from '@tandem/runtime/lifecycle';
import { askDns } from '@tandem/testing/dns-query';
import { waitFor } from '@tandem/testing/wait';
import { degradedOf, waitForDegraded } from '../kit/admin.ts';
import { canConnect } from '../kit/attack.ts';
import { clusterDns4, startStandardNode } from '../kit/standard-node.ts';

const deniedAddresses = ['203.0.113.9', '2001:db8:ffff::9'];
const boundMs = 60_000;

test('no pod under policy is open without the pins, and a restart of both mends it', async () => {
  await using standard = await startStandardNode();
  const { tandem, client } = standard;
  const assertClosed = async (when: string): Promise<void> => {
    for (const address of deniedAddresses) {
      assert.equal(await canConnect(client, address), false, `${address} ${when}`);
    }
  };
  await assertClosed('before');
  removePins(tandem.pinRoot);
  await assertClosed('at once');
  await waitForDegraded(tandem, 'agent', 'pins-removed');
  // Twice through the reconciliation, which finds nothing where it was.
  const failures = (): number => tandem.process('agent').stderr().split('apply-failed').length;
  await waitFor(() => failures() > 1, { what: 'a reconciliation', timeoutMs: boundMs });
  await assertClosed('after a reconciliation');

  await tandem.kill('agent');
  await tandem.startProcess('agent');
  await tandem.waitForMembers(['agent'], boundMs);
  // It has the pins from before, and ends to be started with the new ones.
  const { status } = await tandem.process('proxy').exited;
  assert.equal(status, exitCodes.startFailed, tandem.logs());
  await tandem.startProcess('proxy');
  await tandem.waitForMembers(['agent', 'proxy'], boundMs);
  await assertClosed('after the restart');
  const reply = await askDns(client, { server: clusterDns4, name: 'n-1.allowed.test' });
  assert.equal(reply.rcode, 'NOERROR');
  assert.equal((await degradedOf(tandem, 'agent')).has('pins-removed'), false);
});

test('single pins are put back by the agent, and the DNS proxy that starts after it finds them', async () => {
  await using standard = await startStandardNode();
  const { tandem, client } = standard;
  const paths = pinPaths(tandem.pinRoot);
  const removed = [
    ...(['group', 'endpoints', 'fqdn', 'learn_requests'] as const).map((name) => paths.map(name)),
    ...(['learn', 'judge', 'to_pod'] as const).map((name) => paths.program(name)),
  ];
  for (const path of removed) unlinkSync(path);
  await waitFor(() => removed.every((path) => existsSync(path)), {
    ...{ what: 'all pins', timeoutMs: boundMs },
  });
  await waitFor(async () => (await degradedOf(tandem, 'agent')).size === 0, {
    ...{ what: 'an agent without degradation', timeoutMs: boundMs },
  });
  assert.match(tandem.process('agent').stderr(), /removed pins were restored/);
  await tandem.kill('proxy');
  await tandem.startProcess('proxy');
  await tandem.waitForMembers(['agent', 'proxy'], boundMs);
  await tandem.kill('agent');
  const reply = await askDns(client, { server: clusterDns4, name: 'n-2.allowed.test' });
  assert.equal(reply.rcode, 'NOERROR');
  assert.ok(await canConnect(client, reply.addresses[0] ?? ''));
});
