// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Two agents at once: one writes, the other waits for its end, and brings it about for one that hangs. */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { RunningProcess } from '@tandem/testing/process';
import { patience, waitFor } from '@tandem/testing/wait';
import { waitForDegraded, waitForMended } from '../kit/admin.ts';
import { attached } from '../kit/attached.ts';
import { agentMapsText } from '../kit/enforcement.ts';
import { dnsPolicy } from '../kit/objects.ts';
import { type StandardNode, startStandardNode } from '../kit/standard-node.ts';

/** Longer than anything that an agent does by itself: its source is read again every 5 s. */
const quietMs = 6000;
const takeoverMsMax = 1000;

let standard: StandardNode;
let second: RunningProcess;

before(async () => {
  standard = await startStandardNode();
});

after(() => standard[Symbol.asyncDispose]());

const policyFor = (name: string): object =>
  dnsPolicy({
    selects: { app: 'client' },
    dns: [{ matchName: name }],
    fqdns: [{ matchName: name }],
  });

test('the second waits, and says so', async () => {
  const { tandem } = standard;
  const before_ = attached(tandem);
  const maps = agentMapsText(tandem);
  second = await tandem.startBeside('agent');
  const says = (): boolean =>
    second.stderr().includes('another process has this member index: standing by');
  await waitFor(says, { what: 'the second agent to wait' });
  for (const name of ['agent', 'proxy'] as const) {
    const message = await waitForDegraded(tandem, name, 'agent-waiting');
    assert.match(message, /a second agent stands by/);
  }
  assert.deepEqual(attached(tandem), before_, 'it loads and attaches nothing');
  assert.equal(agentMapsText(tandem), maps);
});

test('one of them applies a change', async () => {
  const { tandem } = standard;
  const revision = tandem.appliedRevision();
  tandem.write('policy.yaml', [policyFor('one.allowed.test')]);
  assert.equal(await tandem.waitForRevision(revision), revision + 1);
  await delay(quietMs);
  assert.equal(tandem.appliedRevision(), revision + 1, 'nobody else applied it too');
  assert.ok(!second.stderr().includes('policy applied'));
});

test('the lease of one that hangs is not broken: it is killed, and only then the second one writes', async () => {
  const { tandem } = standard;
  const before_ = attached(tandem);
  const maps = agentMapsText(tandem);
  tandem.signal('agent', 'SIGSTOP');
  tandem.write('policy.yaml', [policyFor('two.allowed.test')]);
  await waitForDegraded(tandem, 'proxy', 'agent-away');
  await waitForDegraded(tandem, 'proxy', 'agent-waiting');
  assert.equal(agentMapsText(tandem), maps, 'it has the lease still');
  assert.deepEqual(attached(tandem), before_);
  const revision = tandem.appliedRevision();
  assert.deepEqual(await tandem.process('agent').exited, { status: null, signal: 'SIGKILL' });
  tandem.adopt('agent', second);
  await tandem.waitForMembers(['agent', 'proxy']);
  await waitFor(() => tandem.appliedRevision() > revision, { what: 'what was written meanwhile' });
  second = await tandem.startBeside('agent');
  await waitForDegraded(tandem, 'proxy', 'agent-waiting');
});

test(`the second takes over within ${takeoverMsMax} ms of its death`, async () => {
  const { tandem } = standard;
  const { loads } = attached(tandem);
  const revision = tandem.appliedRevision();
  const started = performance.now();
  await tandem.kill('agent');
  tandem.adopt('agent', second);
  const isServing = (): boolean =>
    tandem.members().some(({ pid, state }) => pid === second.pid && state === 'live');
  await waitFor(isServing, { what: 'the second agent to serve' });
  const servedMs = performance.now() - started;
  await waitFor(() => attached(tandem).loads > loads, { what: 'it to load its programs' });
  const loadedMs = performance.now() - started;
  console.log(
    `serves after ${servedMs.toFixed(0)} ms, its programs are in after ${loadedMs.toFixed(0)} ms`,
  );
  assert.ok(servedMs < takeoverMsMax * patience);
  await tandem.waitForMembers(['agent', 'proxy']);
  await waitForMended(tandem, 'proxy', 'agent-waiting');
  assert.ok(tandem.appliedRevision() >= revision);
  tandem.write('policy.yaml', [policyFor('three.allowed.test')]);
  await tandem.waitForRevision(tandem.appliedRevision());
});
