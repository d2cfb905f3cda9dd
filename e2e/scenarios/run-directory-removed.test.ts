// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The run directory is removed under both processes, as systemd does when a unit with the same RuntimeDirectory
 * stops: they make their sockets again, and a process that restarts finds the other one.
 */

import assert from 'node:assert/strict';
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { agentAdminPath, proxyAdminPath } from '@tandem/dns-proxy/config';
import { waitFor } from '@tandem/testing/wait';
import { degradedOf } from '../kit/admin.ts';
import { dnsPolicy } from '../kit/objects.ts';
import { startStandardNode } from '../kit/standard-node.ts';
import type { TandemNode } from '../kit/tandem-node.ts';

const boundMs = 40_000;

async function waitUntilHealthy(tandem: TandemNode): Promise<void> {
  for (const name of ['agent', 'proxy'] as const) {
    await waitFor(
      async () => (await degradedOf(tandem, name).catch(() => null))?.size === 0 || null,
      { what: `a healthy ${name}: ${tandem.logs()}`, timeoutMs: boundMs },
    );
  }
}

test('both processes make their sockets anew, and each finds the other after its restart', async () => {
  await using standard = await startStandardNode();
  const { tandem } = standard;
  const { runDirectory } = tandem;
  const sockets = [
    ...[agentAdminPath(runDirectory), proxyAdminPath(runDirectory)],
    ...['agent-sync.sock', 'peer.sock'].map((name) => join(runDirectory, name)),
  ];
  rmSync(runDirectory, { recursive: true });
  await waitFor(() => sockets.every((path) => existsSync(path)), {
    what: `all sockets: ${tandem.logs()}`,
    timeoutMs: boundMs,
  });
  await waitUntilHealthy(tandem);
  await tandem.kill('proxy');
  await tandem.startProcess('proxy');
  await tandem.waitForMembers(['agent', 'proxy'], boundMs);
  await waitUntilHealthy(tandem);
  assert.match(tandem.process('proxy').stderr(), /the other member is linked/);
  const before = tandem.appliedRevision();
  const names = [{ matchPattern: '*.second.test' }];
  tandem.write('policy.yaml', [
    dnsPolicy({ selects: { app: 'client' }, dns: names, fqdns: names }),
  ]);
  await tandem.waitForRevision(before);
});
