// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * An agent whose bpffsDir is not the one in force (a changed option, or a bpffs that was mounted over the pins), or whose network
 * namespace is not that of the pins. It ends and says what is in force, and pods notice nothing.
 */

import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { removePins } from '@tandem/datapath/datapath';
import { pinPaths } from '@tandem/datapath/paths';
import { askDns } from '@tandem/testing/dns-query';
import type { Namespace } from '@tandem/testing/namespace';
import { createNode } from '@tandem/testing/netns';
import { type RunningProcess, startProcess } from '@tandem/testing/process';
import { canConnect } from '../kit/attack.ts';
import { nodeName } from '../kit/objects.ts';
import { setprivArguments, shippedPrivileges } from '../kit/shipped-privileges.ts';
import {
  clusterDns4,
  clusterDns6,
  type StandardNode,
  startStandardNode,
} from '../kit/standard-node.ts';

let standard: StandardNode;
let other: string;
let nextName = 0;

before(async () => {
  standard = await startStandardNode();
  other = `${standard.tandem.pinRoot}00`;
});
after(async () => {
  await standard[Symbol.asyncDispose]();
  removePins(other);
});

const flagsOf = (directory: string): Record<string, string> => ({
  'run-dir': join(standard.tandem.directory, `${directory}-run`),
  'state-dir': join(standard.tandem.directory, `${directory}-state`),
});

/** With the directories of the agent in force; `script`: what bash does in a mount namespace of its own. */
function startAgent(namespace: Namespace, script: string): RunningProcess {
  const { tandem } = standard;
  const flags = {
    source: `directory:${tandem.policyDirectory}`,
    'node-name': nodeName,
    'log-format': 'text',
    'run-dir': tandem.runDirectory,
    'state-dir': tandem.stateDirectory,
    'bpffs-dir': tandem.pinRoot,
  };
  const program = fileURLToPath(new URL('../../packages/agent/bin/tandem-agent', import.meta.url));
  const command = [
    ...['setpriv', ...setprivArguments(shippedPrivileges.agent), program],
    ...Object.entries(flags).map(([key, value]) => `--${key}=${value}`),
  ];
  return startProcess(
    ...namespace.enter('unshare', ['--mount', 'bash', '-c', script, 'bash', ...command]),
    { env: { ...process.env, TANDEM_NODE: process.execPath } },
  );
}

async function endOf(agent: RunningProcess): Promise<string> {
  const { status } = await agent.exited;
  assert.equal(status, 1, agent.stderr());
  return agent.stderr();
}

async function assertServed(): Promise<void> {
  for (const server of [clusterDns4, clusterDns6]) {
    for (const transport of ['udp', 'tcp'] as const) {
      const name = `n-${++nextName}.allowed.test`;
      // oxlint-disable-next-line no-await-in-loop -- one name after the other
      const { rcode, addresses } = await askDns(standard.client, { server, transport, name });
      assert.equal(rcode, 'NOERROR', `${transport} to ${server}`);
      assert.ok(await canConnect(standard.client, addresses[0] ?? ''));
    }
  }
  assert.equal(await canConnect(standard.client, '203.0.113.9'), false);
}

test('beside the agent in force it ends, and nothing is attached or steered by it', async () => {
  const { node, tandem } = standard;
  const look = (): Promise<string> =>
    node.node.run('bash', ['-c', 'ip rule; nft list table inet tandem']);
  const unchanged = await look();
  await using agent = await tandem.startBeside('agent', {
    flags: { ...flagsOf('beside'), 'bpffs-dir': other, port: 10_054 },
  });
  const said = await endOf(agent);
  assert.match(said, /policy programs of another bpffsDir are attached on this node/);
  // On a machine of tests other nodes have theirs.
  assert.match(said, /its bpffsDir is \S+( or \S+)*: set bpffsDir/);
  assert.ok(said.includes(tandem.pinRoot), said);
  assert.doesNotMatch(said, /NO POLICY IS ENFORCED/);
  assert.ok(existsSync(other), 'the directory of its index');
  assert.deepEqual(readdirSync(pinPaths(other).links), []);
  assert.equal(await look(), unchanged);
  await assertServed();
});

test('when a bpffs is mounted over the pins the agent ends, and the DNS proxy serves', async () => {
  const { node, tandem } = standard;
  await tandem.kill('agent');
  const overmount = 'mount --make-rprivate / && mount -t bpf bpf /sys/fs/bpf && exec "$@"';
  await using agent = startAgent(node.node, overmount);
  assert.match(await endOf(agent), /another bpffs is mounted over them \(`findmnt -t bpf`/);
  await assertServed();
  await tandem.startProcess('agent');
  await tandem.waitForMembers(['agent', 'proxy']);
  await assertServed();
});

test('outside of the network namespace of the pins the agent ends, and says that nothing is enforced there', async () => {
  const { tandem } = standard;
  await tandem.kill('agent');
  await using elsewhere = await createNode({ name: 'elsewhere', pods: [{ name: 'client' }] });
  await using agent = startAgent(elsewhere.node, 'exec "$@"');
  const { status } = await agent.exited;
  assert.equal(status, 4, agent.stderr());
  assert.match(agent.stderr(), /attached in another network namespace and not in this one/);
  await assertServed();
  await tandem.startProcess('agent');
  await tandem.waitForMembers(['agent', 'proxy']);
  await assertServed();
});
