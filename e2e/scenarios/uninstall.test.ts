// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * An agent with removeOnStop takes away what it made. The CNI gate goes first, before what is in flight is waited for:
 * from then on no agent lets a pod start through it.
 */

import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { waitFor } from '@tandem/testing/wait';
import { redirectPolicy } from '../kit/objects.ts';
import { type StandardNode, standardPolicy, startStandardNode } from '../kit/standard-node.ts';

const directory = mkdtempSync(join(tmpdir(), 'tandem-uninstall-'));
const [confDir = '', binDir = '', resultsDir = ''] = ['conf', 'bin', 'results'].map((name) => {
  const path = join(directory, name);
  mkdirSync(path);
  return path;
});
writeFileSync(
  join(confDir, '10-net.conflist'),
  JSON.stringify({ cniVersion: '1.0.0', name: 'pods', plugins: [{ type: 'ptp' }] }),
);
const gateFile = join(confDir, '00-tandem.conflist');
/** With no other member that serves, the agent waits so long for one. */
const drainSeconds = 5;

let standard: StandardNode;
before(async () => {
  standard = await startStandardNode({
    pods: [{ name: 'cache' }],
    podObjects: {
      cache: {
        namespace: 'kube-system',
        labels: { 'k8s-app': 'node-local-dns' },
        isReady: true,
      },
    },
    policies: [standardPolicy, redirectPolicy()],
    options: { 'drain-timeout': `${drainSeconds}s` },
    agentOptions: {
      'remove-on-stop': 'true',
      'cni-conf-dir': confDir,
      'cni-bin-dir': binDir,
      'cni-results-dir': resultsDir,
    },
  });
});
after(async () => {
  await standard[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true, force: true });
});

test('the gate is out of the chain while the agent still drains, and nothing is left when it has ended', async () => {
  const { tandem } = standard;
  await waitFor(() => existsSync(gateFile), { what: 'the gate in the chain' });
  const tables = async (): Promise<string> => standard.node.node.run('nft', ['list', 'tables']);
  await waitFor(async () => (await tables()).includes('tandem_redirect'), { what: 'a redirect' });
  await tandem.kill('proxy');
  const agent = tandem.process('agent');
  const startMs = performance.now();
  tandem.signal('agent', 'SIGTERM');
  await waitFor(() => !existsSync(gateFile), { what: 'the gate to be taken out' });
  const ms = performance.now() - startMs;
  assert.ok(ms < (drainSeconds * 1000) / 2 && tandem.isAlive('agent'), `it drains: ${ms} ms`);
  assert.ok(existsSync(tandem.pinRoot), 'policy is in force until then');
  await agent.exited;
  assert.deepEqual(readdirSync(confDir), ['10-net.conflist']);
  assert.ok(!existsSync(tandem.pinRoot), 'pins');
  assert.doesNotMatch(await tables(), /tandem/);
});
