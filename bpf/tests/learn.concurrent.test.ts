// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** learn from several processes at once, also killed ones: nothing lost, nothing twice, the order whole. */

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { after, beforeEach, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { addressText, mappedAddressBytes } from '@tandem/testing/address';
import { waitFor } from '@tandem/testing/wait';
import { Fixture } from './fixture.ts';
import { type LearnPlan, requestLayout } from './learn-process.ts';
import { keptState, OrderReplay, takeSteps } from './order-replay.ts';
import { OrderState, setShare } from './order-state.ts';
import { allSlots, assertWhole, counted as slotsCounted } from './stored.ts';

const fixture = new Fixture({ fqdn: 16384 }, true, { pairs: 0, quota_namespace: 1_000_000 });
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

/** A process for each plan, all ready to start. */
async function start(plans: readonly LearnPlan[], of: Fixture): Promise<Learning[]> {
  const fds = [of.object.program('learn').fd, of.map('learn_requests').fd];
  const all = plans.map((plan): Learning => {
    const child = spawn(
      process.execPath,
      ['--conditions=@tandem/source', script, JSON.stringify(plan)],
      { stdio: ['pipe', 'pipe', 'inherit', ...fds], timeout: processMs },
    );
    const learning: Learning = {
      child,
      output: '',
      closed: new Promise((resolve) => child.on('close', resolve)),
    };
    child.stdout?.on('data', (chunk: Buffer) => (learning.output += chunk.toString()));
    return learning;
  });
  await waitFor(() => all.every(({ output }) => output.startsWith('ready\n')), {
    timeoutMs: processMs,
    what: 'all processes to be ready',
  });
  return all;
}

interface Learning {
  readonly child: ChildProcess;
  output: string;
  readonly closed: Promise<number | null>;
}

/** Runs each plan in a process of its own; all start together. */
async function learnIn(plans: readonly LearnPlan[], of: Fixture = fixture): Promise<Report[]> {
  const all = await start(plans, of);
  for (const { child } of all) child.stdin?.end('g');
  for (const { closed } of all) {
    // oxlint-disable-next-line no-await-in-loop -- all run meanwhile
    assert.equal(await closed, 0, 'the process ends well');
  }
  return all.map(({ output }) => JSON.parse(output.slice('ready\n'.length)) as Report);
}

/** The plans without end; each process is killed some time after it began. */
async function killWhileLearning(
  plans: readonly LearnPlan[],
  of: Fixture,
  afterMs: number,
): Promise<void> {
  const all = await start(
    plans.map((plan) => ({ ...plan, rounds: null })),
    of,
  );
  for (const { child } of all) child.stdin?.end('g');
  for (const { child, closed } of all) {
    // oxlint-disable-next-line no-await-in-loop -- one after the other, at another moment each
    await delay(afterMs);
    child.kill('SIGKILL');
    // oxlint-disable-next-line no-await-in-loop -- as above
    await closed;
  }
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
  assertWhole(fixture);
  const total = [...slots.values()].flat().length;
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
  const { counted, result } = await countingAsync(() => learnIn(plans));
  t.diagnostic(`busy: ${result.map((report) => report.busy).join(' ')}`);
  const runs = addresses.length * churnRounds * 2;
  for (const report of result)
    assert.deepEqual(report.results, { 0: runs }, 'each add added, each remove removed');
  assert.equal(counted['LEARN_ADDED'], counted['LEARN_REMOVED']);
  assert.equal([...fixture.map('fqdn').entries()].length, 0, 'no page is left');
  assert.deepEqual(slotsCounted(fixture), {});
});

test('a limit that all reach: exactly as many as it allows', async () => {
  const addresses = Array.from({ length: 400 }, (_, i) => `198.51.${i >> 8}.${i & 255}`);
  const limit = 555;
  setShare(fixture, 1, 0, limit);
  const plans = [0, 1, 2, 3].map(
    (writer): LearnPlan => ({
      writer,
      addresses,
      selectors: [s1 + writer],
      kind: 'add',
      rounds: 3,
      namespaceId: 1,
      expires: 1000,
    }),
  );
  const reports = await learnIn(plans);
  for (const { results } of reports) {
    assert.deepEqual(
      Object.keys(results).filter((result) => Number(result) < 0),
      [],
      'none is refused',
    );
  }
  assert.equal(slotsCounted(fixture)[1], limit);
  assertWhole(fixture);
});

const places = 1000;
const share = places / 5;
const crowded = {
  addresses: Array.from({ length: 700 }, (_, i) => `198.51.${i >> 8}.${i & 255}`),
  selectors: [s1, s1 + 1],
  expires: 1000,
} as const;
const crowds = [0, 1, 2, 3].map(
  (writer): LearnPlan => ({
    ...crowded,
    writer,
    kind: 'random',
    rounds: 300,
    namespaceId: writer + 1,
  }),
);

test('four namespaces want more than the map has; a fifth keeps what it learned', async () => {
  using small = new Fixture({ fqdn: 1024 }, true, { pairs: places, quota_namespace: places });
  for (let n = 1; n <= 5; n++) setShare(small, n, share, places);
  const kept: LearnPlan = {
    ...crowded,
    addresses: crowded.addresses.slice(0, share),
    selectors: [s1 + 5],
    writer: 4,
    kind: 'add',
    rounds: 1,
    namespaceId: 5,
  };
  await learnIn([kept], small);
  const before = new OrderState(small).namesOf(5);
  assert.equal(before.length, share);
  const reports = await learnIn(crowds, small);
  for (const { results } of reports) assert.deepEqual(refusalsOf(results), []);
  const state = new OrderState(small);
  assert.deepEqual(state.namesOf(5), before);
  assertWhole(small);
});

const modelMs = process.env['TANDEM_TEST_TIER'] === 'full' ? 60_000 : 2000;

test(`four processes for ${modelMs / 1000} s: each place and victim is the model's, and so are the lists`, async (t) => {
  using small = new Fixture({ fqdn: 1024 }, true, { pairs: places, quota_namespace: places });
  // One is always over its share, one reaches its limit, one has a share that it cannot fill.
  const shares = [
    [0, places],
    [share, 300],
    [share, places],
    [2 * share, places],
  ] as const;
  for (const [n, [guaranteed, limit]] of shares.entries())
    setShare(small, n + 1, guaranteed, limit);
  const replay = new OrderReplay(new OrderState(small).spaces, places);
  const counts: Record<string, number> = {};
  const end = performance.now() + modelMs;
  let total = 0;
  do {
    // oxlint-disable-next-line no-await-in-loop -- one after the other: between them nobody writes
    await learnIn(
      crowds.map((plan) => ({ ...plan, offersIn10: plan.writer, rounds: 200 })),
      small,
    );
    for (const step of takeSteps(small)) {
      const expected = replay.run(step);
      assert.equal(expected, null, `step ${total}, ${JSON.stringify(step)}, should be ${expected}`);
      const kind = step.name === 'evict' && step.space === step.other ? 'evict own' : step.name;
      counts[kind] = (counts[kind] ?? 0) + 1;
      total += 1;
    }
    assert.deepEqual(keptState(small), replay.state());
  } while (performance.now() < end);
  t.diagnostic(`${total} steps: ${JSON.stringify(counts)}`);
  for (const kind of ['take', 'evict', 'evict own', 'refuse', 'link', 'touch', 'remove']) {
    assert.ok((counts[kind] ?? 0) > 0, `no step is ${kind}: ${JSON.stringify(counts)}`);
  }
  assertWhole(small);
});

const kills = process.env['TANDEM_TEST_TIER'] === 'full' ? 200 : 24;

test(`${kills} writers are killed at any moment: nothing is left half done`, async () => {
  using small = new Fixture({ fqdn: 1024 }, true, { pairs: places, quota_namespace: places });
  for (let n = 1; n <= 4; n++) setShare(small, n, share, places);
  for (let killed = 0; killed < kills; killed += crowds.length) {
    // oxlint-disable-next-line no-await-in-loop -- the next ones meet what these left
    await killWhileLearning(crowds, small, 1 + ((killed * 7) % 20));
  }
  assertWhole(small);
  const reports = await learnIn(crowds, small);
  for (const { results } of reports) assert.deepEqual(refusalsOf(results), []);
  assertWhole(small);
});

const refusalsOf = (results: Readonly<Record<string, number>>): string[] =>
  Object.keys(results).filter((result) => Number(result) < 0);

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
