// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The gate in the CNI chain over the lives of an agent: turned off, moved, uninstalled, and what it says of itself. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, beforeEach, test } from 'node:test';
import type { NetworkView } from '@tandem/netlink/network-view';
import { silentLogger } from '@tandem/runtime/log';
import { waitFor } from '@tandem/testing/wait';
import { gateConfigName, gatePluginName } from './gate-installer.ts';
import { GateStack } from './gate-stack.ts';
import { Sandboxes } from './sandboxes.ts';

const root = mkdtempSync(join(tmpdir(), 'tandem-gate-'));
const directory = (name: string): string => join(root, name);
const [run, state, net, other, bin] = ['run', 'state', 'net.d', 'other.d', 'bin'].map(
  directory,
) as [string, string, string, string, string];
const inChain = (of: string): boolean => existsSync(join(of, gateConfigName));
const stacks: GateStack[] = [];

/** An agent's gate, started; the one before has ended. */
async function start(configDirectory: string): Promise<GateStack> {
  await stacks.pop()?.stop();
  const stack = new GateStack({
    ...{ runDirectory: run, stateDirectory: state, configDirectory, pluginDirectory: bin },
    ...{ resultsDirectory: directory('results'), program: directory('program') },
    view: {} as NetworkView, // no pod starts here
    sandboxes: new Sandboxes(() => undefined),
    log: silentLogger(),
  });
  stacks.push(stack);
  await stack.start({ problemOf: () => null, onApplied: () => () => undefined });
  return stack;
}

const codes = ({ degradations }: GateStack): readonly string[] =>
  degradations.map(({ code }) => code);

beforeEach(() => {
  for (const each of [run, state, net, other, bin]) {
    rmSync(each, { recursive: true, force: true });
    mkdirSync(each);
  }
  mkdirSync(join(run, 'gate'));
  writeFileSync(directory('program'), 'the plugin');
  for (const each of [net, other]) {
    writeFileSync(
      join(each, '10-net.conflist'),
      JSON.stringify({ cniVersion: '1.0.0', name: 'pods', plugins: [{ type: 'ptp' }] }),
    );
  }
});
after(async () => {
  await stacks.pop()?.stop();
  rmSync(root, { recursive: true });
});

test('a gate that is turned off is taken out of the chain', async () => {
  assert.deepEqual(codes(await start(net)), []);
  assert.equal(inChain(net), true);
  assert.deepEqual(codes(await start('')), []);
  assert.equal(inChain(net), false);
});

test('a gate that moves is in the new chain alone', async () => {
  await start(net);
  assert.deepEqual(codes(await start(other)), []);
  assert.deepEqual([inChain(net), inChain(other)], [false, true]);
});

test('removal by an agent that was not told of the directory', async () => {
  await start(net);
  (await start('')).remove();
  assert.equal(inChain(net), false);
  await start(net);
  (await start(net)).remove();
  assert.equal(inChain(net), false);
});

test('a reconciliation that runs when the agent ends does not put the gate back', async () => {
  const stack = await start(net);
  await stack.stop();
  stack.remove();
  await stack.ensure();
  assert.equal(inChain(net), false, 'one that comes to the gate later');
  const next = await start(net);
  rmSync(join(run, 'gate', 'gate.sock'));
  const running = next.ensure(); // makes the socket again
  await next.stop();
  next.remove();
  await running;
  assert.equal(inChain(net), false, 'one that is there already');
  assert.equal(existsSync(join(run, 'gate', 'gate.sock')), false, 'and nobody listens');
});

test('one that cannot be taken out is named until it is gone', async () => {
  await start(net);
  const file = join(net, gateConfigName);
  rmSync(file);
  mkdirSync(join(file, 'occupied'), { recursive: true });
  const stack = await start('');
  const [left] = stack.degradations;
  assert.equal(left?.code, 'gate-left');
  assert.equal(left.fix, `rm ${file}`);
  rmSync(file, { recursive: true });
  await stack.ensure();
  assert.deepEqual(codes(stack), []);
});

test('without a program the gate is not in the chain, where it would let no pod start and none end', async () => {
  const stack = await start(net);
  rmSync(join(bin, gatePluginName));
  rmSync(directory('program'));
  await stack.ensure();
  assert.equal(inChain(net), false);
  assert.deepEqual(codes(stack), ['gate-missing']);
  assert.match(stack.degradations[0]?.message ?? '', /program: ENOENT/);
  writeFileSync(directory('program'), 'the plugin');
  await stack.ensure();
  assert.deepEqual([codes(stack), inChain(net)], [[], true]);
});

test('on a distribution whose plugin directory is read-only the gate is not in the chain, and the reason is named', async () => {
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'ro', 'tandem-test', bin]);
  try {
    const stack = await start(net);
    assert.equal(inChain(net), false, 'a plugin that is not there would let no pod start');
    assert.deepEqual(codes(stack), ['gate-missing']);
    assert.match(stack.degradations[0]?.message ?? '', /EROFS|read-only file system/);
    execFileSync('mount', ['-o', 'remount,rw', bin]);
    await stack.ensure();
    assert.deepEqual([codes(stack), inChain(net)], [[], true]);
  } finally {
    execFileSync('umount', [bin]);
  }
});

test('an unreadable configuration of another program: pods are held as before, by the one that was copied', async () => {
  const stack = await start(net);
  writeFileSync(join(net, '10-net.conflist'), '{"name": "po');
  await stack.ensure();
  assert.deepEqual(codes(stack), ['gate-stale']);
  assert.equal(inChain(net), true);
});

test('without its socket no pod starts', async () => {
  await start(net);
  rmSync(join(run, 'gate'), { recursive: true });
  writeFileSync(join(run, 'gate'), '');
  const stack = await start(net);
  assert.deepEqual(codes(stack), ['gate-closed']);
});

test('what of ours is cut off or removed is mended at once', async () => {
  const stack = await start(net);
  const own = join(net, gateConfigName);
  const whole = readFileSync(own, 'utf8');
  const isWhole = (): boolean => {
    try {
      return readFileSync(own, 'utf8') === whole;
    } catch {
      return false;
    }
  };
  truncateSync(own, Math.floor(whole.length / 2));
  await waitFor(isWhole, { what: 'the whole configuration' });
  rmSync(own);
  await waitFor(isWhole, { what: 'a configuration that was removed' });
  const program = join(bin, gatePluginName);
  rmSync(program);
  await waitFor(() => existsSync(program), { what: 'the program' });
  assert.deepEqual(codes(stack), []);
});

test('the other configuration is followed when it changes, when it goes and when it comes again', async () => {
  await start(net);
  const own = join(net, gateConfigName);
  const file = join(net, '10-net.conflist');
  const before = readFileSync(file, 'utf8');
  const list = JSON.parse(before) as { plugins: object[] };
  writeFileSync(file, JSON.stringify({ ...list, plugins: [...list.plugins, { type: 'tuning' }] }));
  await waitFor(() => readFileSync(own, 'utf8').includes('tuning'), { what: 'the change' });
  rmSync(file);
  await waitFor(() => !existsSync(own), { what: 'ours to go too' });
  writeFileSync(file, before);
  await waitFor(() => inChain(net), { what: 'the gate in the chain' });
  assert.ok(!readFileSync(own, 'utf8').includes('tuning'));
});
