// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** learn from several processes at once: nothing lost, nothing twice, quotas exact. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { after, beforeEach, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { addressText, mappedAddressBytes } from '@tandem/testing/address';
import { waitFor } from '@tandem/testing/wait';
import { Fixture } from './fixture.ts';
import { type LearnPlan, requestLayout } from './learn-process.ts';
import { allSlots, quotasUsed } from './stored.ts';

const fixture = new Fixture({ fqdn: 16384 });
after(() => fixture[Symbol.dispose]());
beforeEach(() => fixture.reset());

const script = fileURLToPath(new URL('./learn-process.ts', import.meta.url));
const s1 = 0x80000001;
const processMs = 30_000;
const churnRounds = 20_000;

interface Report {
  readonly busy: number;
  readonly results: Readonly<Record<string, number>>;
}

/** Runs each plan in a process of its own; all start together. */
async function learnIn(plans: readonly LearnPlan[]): Promise<Report[]> {
  const fds = [fixture.object.program('learn').fd, fixture.map('learn_requests').fd];
  const children = plans.map((plan) =>
    spawn(process.execPath, ['--conditions=@tandem/source', script, JSON.stringify(plan)], {
      stdio: ['pipe', 'pipe', 'inherit', ...fds],
      timeout: processMs,
    }),
  );
  const outputs = children.map(() => '');
  const closed = children.map(
    (child) => new Promise<number | null>((resolve) => child.on('close', resolve)),
  );
  for (const [i, child] of children.entries()) {
    child.stdout?.on('data', (chunk: Buffer) => (outputs[i] += chunk.toString()));
  }
  await waitFor(() => outputs.every((output) => output.startsWith('ready\n')), {
    timeoutMs: processMs,
    what: 'all processes to be ready',
  });
  for (const child of children) child.stdin?.end('g');
  for (const code of await Promise.all(closed)) assert.equal(code, 0, 'the process ends well');
  return outputs.map((output) => JSON.parse(output.slice('ready\n'.length)) as Report);
}

/** A limit that no process reaches, so that every refusal is a mistake. */
function setLimit(key: number, limit: number): void {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, key, true);
  fixture.map('quotas').update(bytes, fixture.structs.bytes('td_quota', { limit }));
}

/** Counts in the map what `quotas` claims. */
function assertQuotasExact(): number {
  const expected: Record<number, number> = {};
  let total = 0;
  for (const slots of allSlots(fixture).values()) {
    for (const slot of slots) {
      expected[slot.selector] = (expected[slot.selector] ?? 0) + 1;
      expected[slot.namespaceId] = (expected[slot.namespaceId] ?? 0) + 1;
      total++;
    }
  }
  assert.deepEqual(quotasUsed(fixture), expected);
  return total;
}

test('the layout that the processes write is the one of the ABI', () => {
  const layout = fixture.structs.layout('td_learn_request');
  assert.equal(layout.size, requestLayout.size);
  for (const [field, offset] of Object.entries(requestLayout)) {
    if (field !== 'size') assert.equal(layout.fields.get(field)?.offset, offset, field);
  }
});

test('four processes learn the same addresses while a fifth adds and removes', async (t) => {
  const addresses = Array.from({ length: 1500 }, (_, i) => `198.51.${i >> 8}.${i & 255}`);
  const plan = (writer: number, selectors: number[]): LearnPlan => ({
    writer,
    addresses,
    selectors,
    kind: 'add',
    rounds: 2,
    namespaceId: writer + 1,
    expires: 1000,
  });
  // 5 selectors each: 20 of one address need two pages
  const perProcess = 5;
  const plans = [0, 1, 2, 3].map((i) =>
    plan(
      i,
      Array.from({ length: perProcess }, (_, k) => s1 + i * perProcess + k),
    ),
  );
  const churn: LearnPlan = { ...plan(4, [s1 + 100, s1 + 101]), kind: 'churn', rounds: 8 };
  for (const { namespaceId, selectors } of [...plans, churn]) {
    setLimit(namespaceId, 1_000_000);
    for (const selector of selectors) setLimit(selector, 1_000_000);
  }
  const { counted, result } = await countingAsync(() => learnIn([...plans, churn]));
  t.diagnostic(`busy: ${result.map((report) => report.busy).join(' ')}`);
  const slots = allSlots(fixture);
  let lost = 0;
  for (const address of addresses) {
    const stored = (slots.get(textOf(address)) ?? []).map((slot) => slot.selector);
    assert.equal(new Set(stored).size, stored.length, `${address} has no selector twice`);
    for (const { selectors } of plans) {
      for (const selector of selectors) if (!stored.includes(selector)) lost++;
    }
    assert.ok(!stored.includes(s1 + 100) && !stored.includes(s1 + 101), 'removed is removed');
  }
  assert.equal(lost, 0, 'lost');
  const total = assertQuotasExact();
  assert.equal(total, addresses.length * 4 * perProcess);
  assert.equal((counted['LEARN_ADDED'] ?? 0) - (counted['LEARN_REMOVED'] ?? 0), total);
});

test('four processes make and delete the same few addresses', async (t) => {
  const addresses = Array.from({ length: 4 }, (_, i) => `203.0.113.${i}`);
  const plans = [0, 1, 2, 3].map(
    (writer): LearnPlan => ({
      writer,
      addresses,
      selectors: [s1 + writer],
      kind: 'churn',
      rounds: churnRounds,
      namespaceId: 1,
      expires: 1000,
    }),
  );
  setLimit(1, 1_000_000);
  for (let i = 0; i < 4; i++) setLimit(s1 + i, 1_000_000);
  const { counted, result } = await countingAsync(() => learnIn(plans));
  t.diagnostic(`busy: ${result.map((report) => report.busy).join(' ')}`);
  const runs = addresses.length * churnRounds * 2;
  for (const report of result)
    assert.deepEqual(report.results, { 0: runs }, 'each add added, each remove removed');
  assert.equal(counted['LEARN_ADDED'], counted['LEARN_REMOVED']);
  assert.equal([...fixture.map('fqdn').entries()].length, 0, 'no page is left');
  assert.deepEqual(quotasUsed(fixture), {});
});

test('a quota that all reach: exactly as many as it allows', async () => {
  const addresses = Array.from({ length: 400 }, (_, i) => `198.51.${i >> 8}.${i & 255}`);
  const limit = 555;
  setLimit(1, limit);
  const plans = [0, 1, 2, 3].map(
    (writer): LearnPlan => ({
      writer,
      addresses,
      selectors: [s1 + writer],
      kind: 'add',
      rounds: 1,
      namespaceId: 1,
      expires: 1000,
    }),
  );
  for (let i = 0; i < 4; i++) setLimit(s1 + i, 1_000_000);
  const reports = await learnIn(plans);
  const added = reports.reduce((sum, report) => sum + (report.results['0'] ?? 0), 0);
  const refused = reports.reduce((sum, report) => sum + (report.results['-3'] ?? 0), 0);
  assert.equal(added, limit);
  assert.equal(added + refused, 1600);
  assert.equal(assertQuotasExact(), limit);
});

async function countingAsync<T>(
  action: () => Promise<T>,
): Promise<{ readonly result: T; readonly counted: Record<string, number> }> {
  const before = fixture.counters();
  const result = await action();
  const counted: Record<string, number> = {};
  for (const [name, value] of Object.entries(fixture.counters()))
    counted[name] = value - (before[name] ?? 0);
  return { result, counted };
}

function textOf(address: string): string {
  return addressText(mappedAddressBytes(address));
}
