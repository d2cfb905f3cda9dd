// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Drop events go on being collected whichever process is killed, hangs or is started again: pods are denied
 * all the while, and in the end every packet that the kernel dropped is shown by both processes, once.
 */

import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { systemClock } from '@tandem/runtime/system-clock';
import { askDns } from '@tandem/testing/dns-query';
import { patience, waitFor } from '@tandem/testing/wait';
import { dropReader, toldDrops, toldNames, waitForReader } from '../kit/flows.ts';
import { clusterDns4, type StandardNode, startStandardNode } from '../kit/standard-node.ts';
import type { ProcessName } from '../kit/tandem-node.ts';

const denied = '198.19.7.7';
/** Below what the processes tell each other in a second, and below TD_EVENTS_PER_ENDPOINT, for all of it may come from one CPU. */
const rate = 200;
const seconds = 5;
const faultAfterMs = 1200;
const awayMs = 2000;
const settleTimeoutMs = 15_000;
const processes = ['agent', 'proxy'] as const satisfies readonly ProcessName[];
let nextPort = 2000;
let nextName = 30_000;

let standard: StandardNode;

before(async () => {
  standard = await startStandardNode();
});

beforeEach(async () => {
  const { tandem } = standard;
  for (const name of processes) {
    if (!tandem.isAlive(name)) await tandem.startProcess(name);
  }
  await tandem.waitForMembers(processes);
  await waitForReader(tandem, 'agent', 'proxy');
});

afterEach(() => {
  for (const name of processes) {
    if (standard.tandem.isAlive(name)) standard.tandem.signal(name, 'SIGCONT');
  }
});

after(() => standard[Symbol.asyncDispose]());

interface Denials {
  readonly port: number;
  /** Dropped by the kernel, by its counter. */
  readonly done: Promise<number>;
}

/** A datagram to a denied address every few milliseconds. */
function startDenials(): Denials {
  const { client, tandem } = standard;
  const port = nextPort++;
  const before_ = tandem.counters();
  const count = rate * seconds;
  const run = async (): Promise<number> => {
    const { sent, failed } = await client.blast({ to: denied, port, data: 'data', count, rate });
    assert.deepEqual({ sent, failed }, { sent: count, failed: 0 });
    const after_ = tandem.counters();
    for (const name of ['events_lost', 'events_limited']) {
      assert.equal(after_[name], before_[name], `${name}: the ring takes so few`);
    }
    return (after_['drop_no_match'] ?? 0) - (before_['drop_no_match'] ?? 0);
  };
  return { port, done: run() };
}

/** Until the process has `count` events to the port; then each must be there once, and none be lost. */
async function checkTold(name: ProcessName, port: number, count: number): Promise<void> {
  const { tandem } = standard;
  let told = await toldDrops(tandem, name, port);
  try {
    await waitFor(
      async () => {
        told = await toldDrops(tandem, name, port);
        return told.keys.length >= count;
      },
      { what: `${count} events of the ${name}`, timeoutMs: settleTimeoutMs },
    );
  } catch (error) {
    const reader = await dropReader(tandem, name);
    throw new Error(`${told.keys.length} events, ${JSON.stringify({ ...told.lost, reader })}`, {
      cause: error,
    });
  }
  assert.equal(told.keys.length, count);
  assert.equal(new Set(told.keys).size, count, 'each once');
  assert.deepEqual(told.lost, {});
  assert.equal((await dropReader(tandem, name)).missing, 0);
}

/** Checks what a process started at `sinceNs` must have: all that the other has from then on. */
async function checkSince(
  name: ProcessName,
  other: ProcessName,
  port: number,
  sinceNs: number,
): Promise<void> {
  const { tandem } = standard;
  const { keys, timesNs } = await toldDrops(tandem, other, port);
  const wanted = keys.filter((_, i) => timesNs[i]! >= sinceNs);
  assert.ok(wanted.length > (rate * awayMs) / 1000);
  const told = await waitFor(
    async () => {
      const present = await toldDrops(tandem, name, port);
      const all = new Set(present.keys);
      return wanted.every((key) => all.has(key)) ? present : null;
    },
    { what: `what the ${name} missed`, timeoutMs: settleTimeoutMs },
  );
  assert.equal(new Set(told.keys).size, told.keys.length, 'each once');
  assert.deepEqual(told.lost, {});
}

const boottimeNs = (): number => systemClock.boottimeSeconds() * 1e9;

test('the agent is killed: the proxy reads, hands over, and gives the ring back', async () => {
  const { tandem } = standard;
  const denials = startDenials();
  await delay(faultAfterMs);
  const killedNs = boottimeNs();
  await tandem.kill('agent');
  const tookMs = await waitForReader(tandem, 'proxy', 'proxy');
  assert.ok(tookMs < 1500 * patience, `${tookMs} ms until the proxy read`);
  await delay(awayMs);
  await tandem.startProcess('agent');
  const count = await denials.done;
  assert.equal(count, rate * seconds);
  await checkTold('proxy', denials.port, count);
  await tandem.waitForMembers(processes);
  await waitForReader(tandem, 'agent', 'agent');
  await checkSince('agent', 'proxy', denials.port, killedNs);
});

test('with the agent dead, the proxy shows what is dropped now', async () => {
  const { tandem } = standard;
  await tandem.kill('agent');
  const denials = startDenials();
  await checkTold('proxy', denials.port, await denials.done);
  const reader = await dropReader(tandem, 'proxy');
  assert.deepEqual([reader.isHeld, reader.member], [true, 1]);
});

test('the agent hangs: the proxy reads, and nothing is told twice when it goes on', async () => {
  const { tandem } = standard;
  const denials = startDenials();
  for (let i = 0; i < 2; i++) {
    await delay(faultAfterMs / 2);
    tandem.signal('agent', 'SIGSTOP');
    await waitForReader(tandem, 'proxy', 'proxy');
    await delay(awayMs / 4);
    tandem.signal('agent', 'SIGCONT');
    await waitForReader(tandem, 'agent', 'proxy');
  }
  const count = await denials.done;
  await checkTold('proxy', denials.port, count);
  await checkTold('agent', denials.port, count);
});

test('the agent is told to end and started again', async () => {
  const { tandem } = standard;
  const denials = startDenials();
  await delay(faultAfterMs);
  const endedNs = boottimeNs();
  await tandem.process('agent').stop();
  await waitForReader(tandem, 'proxy', 'proxy');
  await delay(awayMs);
  await tandem.startProcess('agent');
  const count = await denials.done;
  await checkTold('proxy', denials.port, count);
  await checkSince('agent', 'proxy', denials.port, endedNs);
});

test('the proxy is killed: the agent keeps all and hands it over, names too', async () => {
  const { tandem, client } = standard;
  const denials = startDenials();
  await delay(faultAfterMs);
  const killedNs = boottimeNs();
  await tandem.kill('proxy');
  const names: string[] = [];
  for (let i = 0; i < 20; i++) {
    const name = `n-${nextName++}.allowed.test`;
    assert.equal((await askDns(client, { server: clusterDns4, name })).rcode, 'NOERROR');
    names.push(`${name}.`);
  }
  await delay(awayMs);
  await tandem.startProcess('proxy');
  const count = await denials.done;
  await checkTold('agent', denials.port, count);
  await tandem.waitForMembers(processes);
  await checkSince('proxy', 'agent', denials.port, killedNs);
  const told = await toldNames(tandem, 'proxy');
  for (const name of names) {
    assert.equal(told.filter((one) => one === name).length, 1, name);
  }
});
