// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * `tandem-agent remove` on a node whose processes are gone for good: policy goes on until then, and afterwards the node is
 * as it was before Tandem. It does nothing while a process of Tandem runs.
 */

import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { TestNode } from '@tandem/testing/netns';
import { type RunResult, tryRun } from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';
import { setprivArguments, shippedPrivileges } from '../kit/shipped-privileges.ts';
import { type StandardNode, standardPolicy, startStandardNode } from '../kit/standard-node.ts';

const program = fileURLToPath(new URL('../../packages/agent/bin/tandem-agent', import.meta.url));
const directory = mkdtempSync(join(tmpdir(), 'tandem-remove-'));
const [confDir = '', binDir = '', resultsDir = ''] = ['conf', 'bin', 'results'].map((name) => {
  const path = join(directory, name);
  mkdirSync(path);
  return path;
});
const network = join(confDir, '10-net.conflist');
const bpffs = '/sys/fs/bpf';
const gateOptions = {
  'cni-conf-dir': confDir,
  'cni-bin-dir': binDir,
  'cni-results-dir': resultsDir,
};
/** The address of a denied name: no pod has learned it. */
const denied = '198.19.0.7';

/** All that Tandem may change on a node outside of its own directories. */
async function footprint(node: TestNode): Promise<Readonly<Record<string, string>>> {
  const list = async (...[command = '', ...args]: string[]): Promise<string> =>
    (await node.node.run(command, args)).replaceAll(/ counter packets \d+ bytes \d+/g, '');
  const { mode, gid } = statSync(bpffs);
  return {
    nft: await list('nft', 'list', 'tables'),
    rules: await list('ip', 'rule'),
    rules6: await list('ip', '-6', 'rule'),
    routes: await list('ip', 'route', 'show', 'table', 'all', 'type', 'local', 'default'),
    routes6: await list('ip', '-6', 'route', 'show', 'table', 'all', 'type', 'local', 'default'),
    neighbours: await list('ip', 'neigh', 'show', 'nud', 'permanent'),
    forwarding: (await list('bridge', 'fdb', 'show'))
      .split('\n')
      .filter((line) => line.includes('sticky'))
      .join('\n'),
    bpffs: `${(mode & 0o7777).toString(8)} ${gid}`,
    configurations: readdirSync(confDir).join(' '),
    plugins: readdirSync(binDir).join(' '),
  };
}

let standard: StandardNode;
let atFirst: Readonly<Record<string, string>>;
before(async () => {
  const plugins = [{ type: 'ptp' }];
  writeFileSync(network, JSON.stringify({ cniVersion: '1.0.0', name: 'pods', plugins }));
  standard = await startStandardNode({
    policies: [standardPolicy],
    clientKind: 'bridge',
    agentOptions: gateOptions,
    prepare: async (node) => {
      atFirst = await footprint(node);
    },
  });
});
after(async () => {
  await standard[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true, force: true });
});

function remove(): Promise<RunResult> {
  const { node, tandem } = standard;
  const flags = {
    'bpffs-dir': tandem.pinRoot,
    'run-dir': tandem.runDirectory,
    'state-dir': tandem.stateDirectory,
    'log-format': 'text',
    ...gateOptions,
  };
  const args = Object.entries(flags).map(([name, value]) => `--${name}=${value}`);
  // As packaging/README.md has it: no option but those that are not the default, and no Node.js in the PATH.
  const entered = node.node.enter('env', [
    ...['-i', 'PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin'],
    ...['setpriv', ...setprivArguments(shippedPrivileges.agent), program, 'remove', ...args],
  ]);
  return tryRun(...entered, { timeoutMs: 180_000 });
}

const isReached = (): Promise<boolean> =>
  standard.client.tcp({ to: denied, port: 80, timeoutMs: 1500 }).then(
    () => true,
    () => false,
  );

test('policy goes on without a process, and a configuration that still calls the gate keeps everything', async () => {
  const { node, tandem } = standard;
  await waitFor(() => existsSync(join(confDir, '00-tandem.conflist')), { what: 'the gate' });
  // It outlasts `from_pod`, and then drops all ARP of bridged pods.
  const hasArp = async (): Promise<boolean> =>
    /^table arp tandem$/m.test((await footprint(node))['nft'] ?? '');
  await waitFor(hasArp, { what: 'the tables of ARP' });
  const changed = await footprint(node);
  // What a node's Tandem changes, so that the comparison below sees it go.
  for (const part of Object.keys(atFirst).filter((each) => each !== 'bpffs')) {
    assert.notEqual(changed[part], atFirst[part], part);
  }
  await tandem.kill('proxy');
  await tandem.kill('agent');
  assert.equal(await isReached(), false);
  const before_ = join(confDir, '00-multus.conf');
  const delegate = { type: 'multus', delegates: [{ plugins: [{ type: 'tandem-gate' }] }] };
  writeFileSync(before_, JSON.stringify({ cniVersion: '1.0.0', name: 'multus', ...delegate }));
  const { status, stderr } = await remove();
  rmSync(before_);
  assert.equal(status, 1, stderr);
  assert.match(stderr, /00-multus\.conf calls tandem-gate/);
  assert.ok(existsSync(join(binDir, 'tandem-gate')), 'without its program no pod would start');
  assert.equal(await isReached(), false, 'policy goes on');
});

test('the node is as it was before Tandem', async () => {
  const { node, tandem } = standard;
  const ofOthers = join(tandem.stateDirectory, 'notes.txt');
  writeFileSync(ofOthers, 'of somebody else');
  const { status, stderr } = await remove();
  assert.equal(status, 0, stderr);
  assert.deepEqual(await footprint(node), atFirst);
  assert.ok(!existsSync(tandem.pinRoot), 'pins');
  assert.ok(!existsSync(tandem.runDirectory), 'sockets');
  assert.deepEqual(readdirSync(tandem.stateDirectory), ['notes.txt']);
  rmSync(ofOthers);
  await waitFor(isReached, { what: 'a connection that no policy judges' });
});

test('on a node where nothing is left it has nothing to do', async () => {
  const { node, tandem } = standard;
  const { status, stderr } = await remove();
  assert.equal(status, 0, stderr);
  assert.deepEqual(await footprint(node), atFirst);
  assert.ok(!existsSync(tandem.stateDirectory), 'an empty directory');
});
