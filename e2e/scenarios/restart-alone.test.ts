// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Either process starts with the other one dead: from whatever snapshot there is, on a disk that is full
 * or read-only, with or without its source of policy. What the pins hold is enforced in each case, and
 * what does not hold is said.
 */

import assert from 'node:assert/strict';
import {
  mkdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { askDns } from '@tandem/testing/dns-query';
import type { Stream } from '@tandem/testing/probe';
import { run } from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';
import { degradedOf, waitForDegraded, waitForMended, waitForStatus } from '../kit/admin.ts';
import { assertSilence, canConnect, silenceMs } from '../kit/attack.ts';
import { agentMapsText } from '../kit/enforcement.ts';
import { type DiskState, SmallDisk } from '../kit/small-disk.ts';
import {
  clusterDns4,
  type StandardNode,
  standardPolicy,
  startStandardNode,
} from '../kit/standard-node.ts';
import type { ProcessName } from '../kit/tandem-node.ts';

const isFull = process.env['TANDEM_TEST_TIER'] === 'full';
const deniedAddress = '198.19.200.1';
/** Beside other tests on two CPUs; restart-time.alone.test.ts says how long it may take. */
const startMs = 20_000;
type SnapshotState = 'present' | 'absent' | 'corrupt' | 'newer';
type SourceState = 'there' | 'missing';
const snapshots: readonly SnapshotState[] = ['present', 'absent', 'corrupt', 'newer'];
const disks: readonly DiskState[] = ['writable', 'full', 'read-only'];

let standard: StandardNode;
let disk: SmallDisk;
let open: Stream;
let goodSnapshot: Buffer;
let maps = '';
let nextName = 1;

before(async () => {
  disk = await SmallDisk.mount();
  standard = await startStandardNode({ options: { 'state-dir': disk.path } });
  const { tandem, client } = standard;
  const known = await askDns(client, { server: clusterDns4, name: 'n-1.allowed.test' });
  open = await client.connect({ to: known.addresses[0] ?? '', port: 80, data: 'x', want: 1 });
  goodSnapshot = readFileSync(join(disk.path, 'policy.snapshot'));
  maps = agentMapsText(tandem);
  assert.match(maps, /^endpoints/);
});

after(async () => {
  await standard[Symbol.asyncDispose]();
  await disk[Symbol.asyncDispose]();
});

/** Everybody dead, and the disk as it is to be found. */
async function prepare(snapshot: SnapshotState, state: DiskState): Promise<void> {
  const { tandem } = standard;
  for (const name of ['agent', 'proxy'] as const) if (tandem.isAlive(name)) await tandem.kill(name);
  await disk.clear();
  // As after a boot of the node.
  rmSync(join(tandem.runDirectory, 'policy.snapshot'), { force: true });
  const bytes = Buffer.from(goodSnapshot);
  if (snapshot === 'corrupt') bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
  if (snapshot === 'newer') bytes.writeUInt32LE(99, 8);
  if (snapshot !== 'absent') {
    writeFileSync(join(disk.path, 'policy.snapshot'), bytes, { mode: 0o644 });
  }
  await disk.set(state);
}

/** Checks what holds whatever happens: nothing denied passes, what is open lives, no map was emptied. */
async function assertEnforced(): Promise<void> {
  assert.equal(await canConnect(standard.client, deniedAddress), false, 'a denied address');
  await open.exchange({ data: 'y', want: 1 });
  assert.equal(agentMapsText(standard.tandem), maps, 'the maps hold what they held');
}

async function assertServes(): Promise<void> {
  const { client, tandem } = standard;
  const allowed = { server: clusterDns4, name: `n-${nextName++}.allowed.test` };
  const reply = await askDns(client, allowed);
  assert.equal(reply.rcode, 'NOERROR', tandem.logs());
  const stream = await client.tcp({ to: reply.addresses[0] ?? '', port: 80, data: 'x', want: 1 });
  assert.equal(stream.retransmits, 0, 'a new name is reachable at once');
  const denied = await askDns(client, { ...allowed, name: `n-${nextName++}.denied.test` });
  assert.equal(denied.rcode, 'REFUSED');
}

async function assertSilent(): Promise<void> {
  const question = { server: clusterDns4, name: 'n-1.allowed.test', timeoutMs: silenceMs };
  await assertSilence(askDns(standard.client, question), 'nobody has a policy to serve by');
}

interface Case {
  readonly who: ProcessName;
  readonly snapshot: SnapshotState;
  readonly disk: DiskState;
  readonly source: SourceState;
}

const cases: readonly Case[] = snapshots.flatMap((snapshot, s) =>
  disks.flatMap((state, d) => {
    // Every pair of states, and in the full tier every combination.
    const agent = (['there', 'missing'] as const)
      .filter((_, i) => isFull || (s + d + i) % 2 === 0)
      .map((source): Case => ({ who: 'agent', snapshot, disk: state, source }));
    const isOfProxy = isFull || s === d || (snapshot === 'newer' && d === 0);
    const proxy: Case = { who: 'proxy', snapshot, disk: state, source: 'there' };
    return isOfProxy ? [...agent, proxy] : agent;
  }),
);

async function checkCase({ who, snapshot, disk: state, source }: Case): Promise<void> {
  const { tandem } = standard;
  await prepare(snapshot, state);
  const flags = source === 'missing' ? { source: `directory:${tandem.directory}/nowhere` } : {};
  await tandem.startProcess(who, { flags });
  const hasPolicy = snapshot === 'present' || (who === 'agent' && source === 'there');
  if (hasPolicy) {
    // A snapshot of an older revision than the datapath's serves all the same.
    const mayLag = source === 'missing' || who === 'proxy';
    await tandem.waitForMembers([who], startMs, { mayLag });
    await assertServes();
  }
  if (source === 'missing') await waitForDegraded(tandem, who, 'source-unreachable');
  const degraded = await waitForStatus(tandem, who);
  if (!hasPolicy) {
    await assertSilent();
    assert.ok(degraded.has('no-policy'), [...degraded.keys()].join());
    assert.equal(degraded.has('snapshot-unusable'), snapshot !== 'absent', [...degraded].join());
  }
  assert.equal(degraded.has('source-unreachable'), source === 'missing');
  if (who === 'agent' && source === 'there') {
    // Its policy has a new revision, which must go to disk.
    if (state === 'writable') assert.ok(!degraded.has('snapshot-not-written'));
    else await waitForDegraded(tandem, who, 'snapshot-not-written');
  }
  await assertEnforced();
}

describe('alone', () => {
  for (const each of cases) {
    const name = `${each.who}, snapshot ${each.snapshot}, disk ${each.disk}, source ${each.source}`;
    test(name, () => checkCase(each));
  }
});

test('a source that comes back is read, and the policy goes on from it', async () => {
  const { tandem, client } = standard;
  await prepare('present', 'writable');
  // A policy that cannot be read is no policy that was deleted.
  const file = join(tandem.policyDirectory, 'policy.yaml');
  unlinkSync(file);
  symlinkSync('/nowhere/policy.yaml', file);
  await tandem.startProcess('agent');
  const problem = await waitForDegraded(tandem, 'agent', 'source-unreachable');
  assert.match(problem, /policy\.yaml/);
  await tandem.waitForMembers(['agent'], startMs, { mayLag: true });
  await assertServes();
  await assertEnforced();
  unlinkSync(file);
  tandem.write('policy.yaml', [standardPolicy]);
  await waitForMended(tandem, 'agent', 'source-unreachable');
  await tandem.waitForMembers(['agent']);
  await assertEnforced();
  tandem.write('policy.yaml', []);
  const isOpen = (): Promise<boolean> => canConnect(client, deniedAddress);
  await waitFor(isOpen, { what: 'what the source says now to hold' });
  tandem.write('policy.yaml', [standardPolicy]);
  await waitFor(async () => !(await isOpen()), { what: 'the policy to be back' });
});

test('a source whose file system is not mounted ends no policy, with the agent alive and at its start', async () => {
  const { tandem } = standard;
  await prepare('present', 'writable');
  await tandem.startProcess('agent');
  await tandem.waitForMembers(['agent']);
  const { policyDirectory } = tandem;
  await run('mount', ['-t', 'tmpfs', 'tmpfs', policyDirectory]);
  try {
    const problem = await waitForDegraded(tandem, 'agent', 'source-unreachable');
    assert.match(problem, /has no .yaml file any more/);
    await assertEnforced();
    await tandem.kill('agent');
    await tandem.startProcess('agent');
    await waitForDegraded(tandem, 'agent', 'source-unreachable');
    await tandem.waitForMembers(['agent'], startMs, { mayLag: true });
    await assertServes();
    await assertEnforced();
  } finally {
    await run('umount', [policyDirectory]);
  }
  await waitForMended(tandem, 'agent', 'source-unreachable');
  await assertEnforced();
});

test('a disk that has room again gets the policy', async () => {
  const { tandem } = standard;
  await prepare('present', 'full');
  await tandem.startProcess('agent');
  await waitForDegraded(tandem, 'agent', 'snapshot-not-written');
  await disk.set('writable');
  await waitForMended(tandem, 'agent', 'snapshot-not-written');
  const written = readFileSync(join(disk.path, 'policy.snapshot'));
  assert.notDeepEqual(written, goodSnapshot);
  await tandem.kill('agent');
  await tandem.startProcess('proxy');
  await tandem.waitForMembers(['proxy']);
  await assertServes();
});

test('a full disk: what restarts has the newest policy from the run directory, the agent without its source too', async () => {
  const { tandem } = standard;
  await prepare('present', 'full');
  await tandem.startProcess('agent');
  const said = await waitForDegraded(tandem, 'agent', 'snapshot-not-written');
  assert.match(said, /begins with the copy .*policy\.snapshot/);
  await tandem.waitForMembers(['agent']);
  await tandem.kill('agent');
  await tandem.startProcess('proxy');
  // With the revision that the kernel requires: the disk has an older one.
  await tandem.waitForMembers(['proxy']);
  await assertServes();
  await tandem.kill('proxy');
  await tandem.startProcess('agent', {
    flags: { source: `directory:${tandem.directory}/nowhere` },
  });
  await tandem.waitForMembers(['agent'], startMs, { mayLag: true });
  await assertServes();
  await assertEnforced();
  // A copy that is damaged is passed over: the disk has a policy.
  await tandem.kill('agent');
  writeFileSync(join(tandem.runDirectory, 'policy.snapshot'), 'garbage');
  await tandem.startProcess('proxy');
  await tandem.waitForMembers(['proxy'], startMs, { mayLag: true });
  assert.ok(!(await degradedOf(tandem, 'proxy')).has('snapshot-unusable'));
  await assertServes();
});

test('an agent whose sync socket cannot be made serves, and makes it when it can', async () => {
  const { tandem } = standard;
  await prepare('present', 'writable');
  const path = join(tandem.runDirectory, 'agent-sync.sock');
  rmSync(path, { force: true });
  mkdirSync(path);
  await tandem.startProcess('agent');
  assert.match(await waitForDegraded(tandem, 'agent', 'sync-unavailable'), /no socket/);
  await tandem.waitForMembers(['agent'], startMs, { mayLag: true });
  await assertServes();
  await assertEnforced();
  rmdirSync(path);
  await waitForMended(tandem, 'agent', 'sync-unavailable');
  await tandem.startProcess('proxy');
  await tandem.waitForMembers(['agent', 'proxy']);
  await waitForMended(tandem, 'proxy', 'snapshot-only');
});
