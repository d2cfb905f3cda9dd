// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A process is killed in the place of each of its calls that change the file system or the network, or start a program, from its
 * start until it serves the policy that is new: pins renamed, sockets bound, snapshots written, nft started. What it left
 * behind keeps neither the other process from starting alone and serving, nor its own next start.
 *
 * The long tier tries every call, the short one a few. FILE_FAULTS repeats some: agent:17,proxy:3.
 */

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { askDns } from '@tandem/testing/dns-query';
import type { Stream } from '@tandem/testing/probe';
import { waitFor } from '@tandem/testing/wait';
import { canConnect } from '../kit/attack.ts';
import { FileFaults } from '../kit/file-faults.ts';
import { dnsPolicy } from '../kit/objects.ts';
import { clusterDns4, type StandardNode, startStandardNode } from '../kit/standard-node.ts';
import type { ProcessName } from '../kit/tandem-node.ts';

const isFull = process.env['TANDEM_TEST_TIER'] === 'full';
const chosen = process.env['FILE_FAULTS'];
/** Step from one call to the next in the short tier. */
const shortStep = { agent: 24, proxy: 10 } as const;
const startMs = 30_000;
const deniedAddress = '198.19.200.1';

let standard: StandardNode;
let faults: FileFaults;
let victim: ProcessName = 'agent';
let open: Stream;
let nextName = 1;
let nextPolicy = 1;

before(async () => {
  standard = await startStandardNode({
    environment: (name, tandem) => {
      faults ??= new FileFaults(tandem.directory);
      return name === victim ? faults.environment : {};
    },
  });
  const { client } = standard;
  const known = await askDns(client, { server: clusterDns4, name: 'n-0.allowed.test' });
  open = await client.connect({ to: known.addresses[0] ?? '', port: 80, data: 'x', want: 1 });
});
after(() => standard[Symbol.asyncDispose]());

/** Both dead, and policy that the saved one is older than. */
async function killBoth(): Promise<void> {
  const { tandem } = standard;
  for (const name of ['agent', 'proxy'] as const) if (tandem.isAlive(name)) await tandem.kill(name);
  const dns = [{ matchPattern: `*.new-${nextPolicy++}.test` }];
  tandem.write('new.yaml', [dnsPolicy({ name: 'new', selects: { app: 'dns' }, dns, fqdns: dns })]);
}

/** Starts the victim alone, to be killed at its `nth` call; 0: none. Until it has ended, or serves. */
async function startVictim(nth: number): Promise<'ended' | 'serves'> {
  const { tandem } = standard;
  await killBoth();
  const revision = tandem.appliedRevision();
  faults.set(nth);
  const running = await tandem.startProcess(victim);
  const hasPolicy = (): boolean => victim === 'proxy' || tandem.appliedRevision() > revision;
  const isOver = (): boolean =>
    !tandem.isAlive(victim) || (/ running$/m.test(running.stderr()) && hasPolicy());
  const what = `the end of the ${victim}, or its start`;
  await waitFor(isOver, { what, timeoutMs: startMs, state: () => tandem.logs() });
  return tandem.isAlive(victim) ? 'serves' : 'ended';
}

async function assertServes(who: string): Promise<void> {
  const { client, tandem } = standard;
  const name = `n-${nextName++}.allowed.test`;
  const state = (): string => `${who}: ${tandem.logs()}`;
  const reply = await askDns(client, { server: clusterDns4, name });
  assert.equal(reply.rcode, 'NOERROR', state());
  await client.tcp({ to: reply.addresses[0] ?? '', port: 80, data: 'x', want: 1 });
  const denied = await askDns(client, { server: clusterDns4, name: 'n-1.denied.test' });
  assert.equal(denied.rcode, 'REFUSED', state());
  assert.equal(await canConnect(client, deniedAddress), false, state());
  await open.exchange({ data: 'y', want: 1 });
}

function casesOf(count: number): readonly number[] {
  const all = Array.from({ length: count }, (_, index) => index + 1);
  const wanted = chosen?.split(',').filter((each) => each.startsWith(`${victim}:`));
  if (wanted !== undefined) return wanted.map((each) => Number(each.split(':')[1]));
  return isFull ? all : all.filter((nth) => nth % shortStep[victim] === shortStep[victim] >> 1);
}

for (const name of ['agent', 'proxy'] as const) {
  const other = name === 'agent' ? 'proxy' : 'agent';
  describe(`the ${name} is killed in its start`, () => {
    test(`the ${other} starts without it, and it starts again`, async (t) => {
      const { tandem } = standard;
      victim = name;
      assert.equal(await startVictim(0), 'serves');
      await assertServes(name);
      const { count } = faults;
      t.diagnostic(
        `calls of a start that change files or the network, or start a program: ${count}`,
      );
      for (const nth of casesOf(count)) {
        await t.test(`call ${nth} of ${count}`, async () => {
          const outcome = await startVictim(nth);
          if (outcome === 'serves') await tandem.kill(name);
          await tandem.startProcess(other);
          await tandem.waitForMembers([other], startMs, { mayLag: other === 'proxy' });
          await assertServes(other);
          faults.set(0);
          await tandem.startProcess(name);
          await tandem.waitForMembers([name, other], startMs);
          await assertServes('both');
        });
      }
    });
  });
}
