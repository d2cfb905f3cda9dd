// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Promises of ./run cluster about the machine on which it runs, with a cluster of one node and a name of its own. Runs in
 * `./run test --cluster`: programs must be built, which takes many minutes the first time.
 */

import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type RunResult, run, startProcess, tryRun } from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';
import { kubectl } from './kubectl.ts';
import { bedDirectory, Layout } from './layout.ts';
import { powerOffNode, startNode } from './node.ts';
import { nodeVolumes } from './node-files.ts';
import { daemonPid } from './processes.ts';

const main = fileURLToPath(new URL('main.ts', import.meta.url));
const name = `test${process.pid % 10_000}`;
const layout = new Layout(name);
const upTimeoutMs = 300_000;

const command = (...args: readonly string[]): string[] => [...process.execArgv, main, ...args];

function cluster(...args: readonly string[]): Promise<RunResult> {
  return tryRun(process.execPath, command(...args), { timeoutMs: upTimeoutMs });
}

const oneNode = ['--name', name, '--nodes', '1'];

/** Things that a cluster of this name could leave behind, and settings of the machine that every cluster changes. */
async function footprint(): Promise<readonly string[]> {
  const { stdout } = await run('ip', ['netns', 'list']);
  const cgroups = ['/sys/fs/cgroup', ...subdirectories('/sys/fs/cgroup')].flatMap(subdirectories);
  const { stdout: processes } = await tryRun('pgrep', ['--list-full', '--full', `/${name}/`]);
  const isOfAnother = existsSync(bedDirectory) && readdirSync(bedDirectory).length > 0;
  const shared = isOfAnother ? [] : [...Object.keys(nodeVolumes), bedDirectory].filter(existsSync);
  const sysctls = ['vm/overcommit_memory', 'kernel/panic_on_oops', 'kernel/panic'];
  return [
    ...stdout.split('\n').filter((line) => line.startsWith(`${name}-`)),
    ...cgroups.filter((path) => path.includes(`/${name}-`)),
    ...processes.split('\n').filter((line) => line !== ''),
    ...shared,
    ...['/usr/libexec/kubernetes', '/opt/containerd', layout.directory].filter(existsSync),
    ...(isOfAnother ? [] : sysctls.map((path) => readFileSync(`/proc/sys/${path}`, 'utf8').trim())),
  ];
}

function subdirectories(path: string): string[] {
  try {
    const entries = readdirSync(path, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory()).map((entry) => `${path}/${entry.name}`);
  } catch {
    return [];
  }
}

describe('a cluster of one node', () => {
  let clean: readonly string[] = [];

  before(async () => {
    clean = await footprint();
  });

  after(async () => {
    await cluster('down', '--name', name);
  });

  test('a wrong option ends with 2 and its name, status without a cluster with 3', async () => {
    for (const [args, text] of [
      [['up', '--nodes', '4'], '--nodes: 4'],
      [['up', '--cni', 'calico'], '--cni: "calico"'],
      [['up', '--bogus'], '--bogus'],
      [['upp'], 'upp'],
    ] as const) {
      const { status, stderr } = await cluster(...args);
      assert.equal(status, 2);
      assert.match(stderr, new RegExp(text));
    }
    assert.equal((await cluster('status', '--name', name)).status, 3);
  });

  test('up killed with SIGKILL half way: down leaves nothing', {
    timeout: upTimeoutMs,
  }, async () => {
    await using half = startProcess(process.execPath, command('up', ...oneNode));
    await waitFor(() => daemonPid(layout, 'n1'), { what: 'a node', timeoutMs: upTimeoutMs });
    half.child.kill('SIGKILL');
    await half.exited;
    assert.equal((await cluster('down', '--name', name)).status, 0);
    assert.deepEqual(await footprint(), clean);
  });

  test('up again after a killed one, twice: the second leaves it as it is', {
    timeout: upTimeoutMs,
  }, async () => {
    await using half = startProcess(process.execPath, command('up', ...oneNode));
    const hasApiServer = (): number | null => daemonPid(layout, 'kube-apiserver');
    await waitFor(hasApiServer, { what: 'an API server', timeoutMs: upTimeoutMs });
    half.child.kill('SIGKILL');
    await half.exited;
    const first = await cluster('up', ...oneNode);
    assert.equal(first.status, 0, first.stderr);
    const pid = daemonPid(layout, 'kube-apiserver');
    assert.equal((await cluster('up', ...oneNode)).status, 0);
    assert.equal(daemonPid(layout, 'kube-apiserver'), pid);
    const { status, stdout } = await cluster('status', '--name', name, '-o', 'json');
    assert.equal(status, 0);
    assert.equal((JSON.parse(stdout) as { isReady: boolean }).isReady, true);
    assert.equal((await cluster('up', '--name', name, '--nodes', '2')).status, 1);
  });

  test('a node that lost its power is back with its pods', { timeout: upTimeoutMs }, async () => {
    const { config } = layout.readRecord() ?? {};
    assert.ok(config);
    await powerOffNode(layout, 1);
    assert.equal((await cluster('status', '--name', name)).status, 1);
    await startNode(layout, config, 1);
    // the API server's picture of the node is older than the power cut, until kubelet reports again
    const restarts = '{.items[*].status.containerStatuses[*].restartCount}';
    const query = ['-n', 'kube-system', 'get', 'pods', '-o', `jsonpath=${restarts}`];
    const isBack = async (): Promise<boolean> => (await kubectl(layout, query)) === '1';
    await waitFor(isBack, { what: 'CoreDNS to be started again', timeoutMs: 120_000 });
    const isReady = async (): Promise<boolean> =>
      (await cluster('status', '--name', name)).status === 0;
    await waitFor(isReady, { what: 'the cluster to be ready again', timeoutMs: 120_000 });
  });

  test('down leaves nothing, and twice does no harm', { timeout: upTimeoutMs }, async () => {
    assert.equal((await cluster('down', '--name', name)).status, 0);
    assert.deepEqual(await footprint(), clean);
    assert.equal((await cluster('down', '--name', name)).status, 0);
    assert.deepEqual(await footprint(), clean);
  });
});
