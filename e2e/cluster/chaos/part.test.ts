// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The faults that a seed draws, and the command line. Only a run on a cluster tests the faults. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { MemberStatus } from '@tandem/datapath/group';
import { readTool, UsageError } from '@tandem/runtime/tool';
import { Random } from '../../chaos/random.ts';
import type { RunResult } from '../../chaos/run.ts';
import { clusterFaults, isServed } from './catalogue.ts';
import { chosenRun, clusterChaosTool, listText } from './options.ts';
import { boundsOf, Drawing } from './part.ts';
import type { DrawnFault } from './run.ts';

const rounds = 20;

function drawnBy(seed: number): readonly (readonly DrawnFault[])[] {
  const stage = { random: new Random(seed, 'cluster'), nodes: [1, 2] };
  const drawing = new Drawing(stage, clusterFaults);
  return Array.from({ length: rounds * clusterFaults.length }, () => drawing.next().drawn);
}

test('a seed draws the same faults, nodes and times again, another one others', () => {
  const of = (seed: number): readonly unknown[] =>
    drawnBy(seed).map((drawn) =>
      drawn.map(({ fault, ...rest }) => ({ ...rest, name: fault.name })),
    );
  assert.deepEqual(of(1), of(1));
  assert.notDeepEqual(of(1), of(2));
});

test('each fault comes once in a round, to nodes that there are, for as long as it says', () => {
  const all = drawnBy(3);
  for (let round = 0; round < rounds; round++) {
    const own = all.slice(round * clusterFaults.length, (round + 1) * clusterFaults.length);
    const names = own.map(([first]) => first?.fault.name);
    assert.deepEqual(names.toSorted(), clusterFaults.map(({ name }) => name).toSorted());
  }
  for (const { fault, node, holdMs } of all.flat()) {
    const [least, most] = fault.seconds ?? [0, 0];
    assert.ok(holdMs >= least * 1000 && holdMs <= most * 1000, `${fault.name}: ${holdMs} ms`);
    assert.ok([1, 2].includes(node));
  }
});

test('a second fault is of another subject, and never beside one that must be alone', () => {
  const pairs = drawnBy(4).filter((drawn) => drawn.length > 1);
  assert.ok(pairs.length > 50);
  for (const [first, second] of pairs) {
    assert.notEqual(first?.fault.subject, second?.fault.subject);
    assert.ok(first?.fault.isAlone !== true && second?.fault.isAlone !== true);
  }
});

test('lost and late queries are held against those of pods without policy', () => {
  const broken = (own: Partial<RunResult>, late: number, lost: number): string[] => {
    const run = {
      ...{ fault: 'API server SIGKILL', late: 0, lost: 0, wronglyAllowed: 0, wronglyRefused: 0 },
      ...{ direct: { sent: 9, late, lost, wronglyRefused: 0, problems: [] }, ...own },
    } as RunResult;
    return boundsOf([run], 0).flatMap(({ what, isHeld }) => (isHeld ? [] : [what]));
  };
  const what = 'API server SIGKILL';
  const late = `${what}: lost or later than 1 s, as pods without policy`;
  assert.deepEqual(broken({}, 0, 0), []);
  assert.deepEqual(broken({ late: 1 }, 0, 0), [late]);
  assert.deepEqual(broken({ late: 1 }, 0, 1), []);
  assert.deepEqual(broken({ late: 2 }, 0, 1), [late]);
  assert.deepEqual(broken({ lost: 1 }, 1, 0), [`${what}: lost, as pods without policy`]);
  assert.deepEqual(broken({ wronglyAllowed: 1 }, 1, 1), [`${what}: wrongly allowed`]);
});

test('a member that was killed does not serve, however fresh its last heartbeat is', () => {
  const at = (epochNs: number, more: Partial<MemberStatus> = {}): MemberStatus => ({
    ...{ index: 0, role: 'agent', state: 'live', pid: 1, isServing: true, revision: 1 },
    ...{ beatAgeMs: 3, epochNs, ...more },
  });
  const killed = new Set([100, 200]);
  assert.equal(isServed([at(100), at(200, { index: 1 })], killed), false);
  assert.equal(isServed([at(100), at(300, { index: 1 })], killed), true);
  assert.equal(isServed([at(300, { isServing: false })], killed), false);
  assert.equal(isServed([at(300, { revision: 0 })], killed), false);
  assert.equal(isServed([at(100)], new Set()), true);
  assert.equal(isServed([at(100, { beatAgeMs: 90 })], new Set()), false);
});

test('the command line', () => {
  const read = (...args: string[]) => {
    const values = readTool(clusterChaosTool, ['--cluster', ...args])?.config;
    assert.ok(values !== undefined);
    return chosenRun(values, '2026-01-02');
  };
  const { minutes, seed, config } = read('--minutes', '3', '--seed', '7', '--cni', 'ptp');
  assert.deepEqual([minutes, seed, config.cni], [3, 7, 'ptp']);
  assert.deepEqual(read('--fault', 'node cut off').faults, ['node cut off']);
  assert.match(
    read('--save').textFile ?? '',
    /docs\/results\/chaos-cluster-bridge-2026-01-02\.md$/,
  );
  assert.match(
    read('--save', '--fault', 'no agent can start').textFile ?? '',
    /chaos-cluster-no-agent-can-start-bridge-2026-01-02\.md$/,
  );
  for (const wrong of [
    ['--fault', 'nothing'],
    ['--minutes', '0'],
    ['--nodes', '4'],
    ['-o', 'xml'],
    ['--unknown'],
    ['--cni', 'flannel', '--dual-stack'],
  ]) {
    assert.throws(() => read(...wrong), UsageError, wrong.join(' '));
  }
});

test('the list says what may fail under each fault', () => {
  for (const { name, what } of clusterFaults)
    assert.ok(
      listText().includes(what) && listText().includes(name) && /may (fail|stay)/.test(what),
    );
});
