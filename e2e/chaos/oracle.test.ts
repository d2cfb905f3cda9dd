// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The oracle, on what a run might show. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { addressOf, Names, type Question } from './names.ts';
import { type Excuse, type Judgement, judge, type Seen } from './oracle.ts';
import { Random } from './random.ts';
import type { QueryRecord } from './records.ts';
import { recoveryMs, slowMs, timelineOf } from './timeline.ts';

const allowed: Question = { name: 'n-200.allowed.test', kind: 'fresh', address: '198.18.0.200' };
const denied: Question = { name: 'd-201.denied.test', kind: 'denied', address: '198.18.0.201' };
const right: QueryRecord = {
  ...{ sentMs: 1000, number: 0, latencyMs: 21, rcode: 0, address: '198.18.0.200' },
  connection: 'opened',
};
const refused: QueryRecord = { ...right, rcode: 5, address: null, connection: 'none' };
const silent: QueryRecord = { ...refused, latencyMs: null, rcode: 255 };

function judged(question: Question, record: QueryRecord, seen: Partial<Seen> = {}): Judgement {
  return judge({
    loads: [{ questions: [question], records: [record] }],
    unsent: 0,
    lostUpstream: new Set(),
    leaked: [],
    escaped: 0,
    learned: new Set(['198.18.0.200']),
    mayNotLearn: false,
    mayBeLearned: (address) => address.startsWith('198.18.'),
    learnedSinceMs: 0,
    silence: [],
    ...seen,
  });
}

type Wrong = Pick<Judgement, 'late' | 'lost' | 'excused' | 'wronglyAllowed' | 'wronglyRefused'>;
const nothing: Wrong = { late: 0, lost: 0, excused: 0, wronglyAllowed: 0, wronglyRefused: 0 };

const cases: readonly (readonly [string, Judgement, Partial<Wrong>])[] = [
  ['an allowed name with its address', judged(allowed, right), {}],
  ['a denied name that is refused', judged(denied, refused), {}],
  ['an answer after a second', judged(allowed, { ...right, latencyMs: 1001 }), { late: 1 }],
  ['no answer', judged(allowed, silent), { lost: 1 }],
  ['no answer to a denied name', judged(denied, silent), { lost: 1 }],
  ['queries that could not be sent', judged(allowed, right, { unsent: 2 }), { lost: 2 }],
  ['an allowed name refused', judged(allowed, refused), { wronglyRefused: 1 }],
  ['SERVFAIL', judged(allowed, { ...refused, rcode: 2 }), { wronglyRefused: 1 }],
  [
    "another name's address",
    judged(allowed, { ...right, address: '198.18.0.1' }),
    { wronglyRefused: 1 },
  ],
  [
    'a SYN that was dropped',
    judged(allowed, { ...right, connection: 'failed' }),
    { wronglyRefused: 1 },
  ],
  [
    'an address that was not learned',
    judged(allowed, right, { learned: new Set() }),
    { wronglyRefused: 1 },
  ],
  [
    'one that may have made room',
    judged(allowed, right, { learned: new Set(), learnedSinceMs: 1001 }),
    {},
  ],
  [
    'one that found no room, where that may be',
    judged(allowed, { ...right, connection: 'failed' }, { learned: new Set(), mayNotLearn: true }),
    {},
  ],
  ['a denied name with an address', judged(denied, { ...right, number: 0 }), { wronglyAllowed: 1 }],
  ['a denied name with SERVFAIL', judged(denied, { ...refused, rcode: 2 }), { wronglyRefused: 1 }],
  [
    'a denied name at the upstream',
    judged(denied, refused, { leaked: [denied.name] }),
    { wronglyAllowed: 1 },
  ],
  ['packets that got out', judged(allowed, right, { escaped: 2 }), { wronglyAllowed: 2 }],
  [
    'an address in the map that no policy wants',
    judged(allowed, right, { learned: new Set(['198.18.0.200', '192.0.2.1']) }),
    { wronglyAllowed: 1 },
  ],
  [
    'what the upstream did not answer',
    judged(allowed, silent, { lostUpstream: new Set([allowed.name]) }),
    { excused: 1 },
  ],
  [
    'a denied name is no affair of the upstream',
    judged(denied, silent, { lostUpstream: new Set([denied.name]) }),
    { lost: 1 },
  ],
  [
    'silence while nobody can be alive',
    judged(allowed, silent, { silence: [{ fromMs: 999, toMs: 1000 }] }),
    { excused: 1 },
  ],
  [
    'silence before that',
    judged(allowed, silent, { silence: [{ fromMs: 1001, toMs: 2000 }] }),
    { lost: 1 },
  ],
  ...withExcuse('resolver', { allowed: 'excused', denied: 'lost' }),
  ...withExcuse('cut', { allowed: 'excused', denied: 'lost' }),
  ...withExcuse('silence', { allowed: 'excused', denied: 'excused' }),
  [
    'a connection from a node that is cut off',
    judged(
      allowed,
      { ...right, connection: 'failed' },
      loadOf('cut', allowed, { ...right, connection: 'failed' }),
    ),
    {},
  ],
  [
    'a connection while the DNS server is away',
    judged(allowed, right, loadOf('resolver', allowed, { ...right, connection: 'failed' })),
    { wronglyRefused: 1 },
  ],
  [
    'an address for a denied name, from a node that is cut off',
    judged(denied, right, loadOf('cut', denied, right)),
    { wronglyAllowed: 1 },
  ],
  [
    'an address that the map of the own node has not learned',
    judged(allowed, right, {
      loads: [{ questions: [allowed], records: [right], learned: new Set() }],
    }),
    { wronglyRefused: 1 },
  ],
  [
    'a map that is gone with its node',
    judged(allowed, right, {
      loads: [{ questions: [allowed], records: [right], learned: null }],
      learned: new Set(),
    }),
    {},
  ],
];

/** A load with an excuse for the time of its only query. */
function loadOf(what: Excuse['what'], question: Question, record: QueryRecord): Partial<Seen> {
  const excuses = [{ what, fromMs: record.sentMs, toMs: record.sentMs }];
  return { loads: [{ questions: [question], records: [record], excuses }] };
}

/** No answer, in the time of an excuse and after it. */
function withExcuse(
  what: Excuse['what'],
  wanted: Readonly<Record<'allowed' | 'denied', 'excused' | 'lost'>>,
): readonly (readonly [string, Judgement, Partial<Wrong>])[] {
  const late = { ...silent, sentMs: silent.sentMs + 1 };
  const { loads = [] } = loadOf(what, allowed, silent);
  const after = loads.map((load) => ({ ...load, records: [late] }));
  return [
    [
      `${what}: an allowed name`,
      judged(allowed, silent, loadOf(what, allowed, silent)),
      { [wanted.allowed]: 1 },
    ],
    [
      `${what}: a denied name`,
      judged(denied, silent, loadOf(what, denied, silent)),
      { [wanted.denied]: 1 },
    ],
    [`${what}: after it`, judged(allowed, late, { loads: after }), { lost: 1 }],
  ];
}

describe('the oracle', () => {
  for (const [what, { late, lost, excused, wronglyAllowed, wronglyRefused }, wanted] of cases) {
    test(what, () => {
      const seen = { late, lost, excused, wronglyAllowed, wronglyRefused };
      assert.deepEqual(seen, { ...nothing, ...wanted });
    });
  }

  test('says in words what was wrong', () => {
    const { problems } = judged(allowed, silent);
    assert.deepEqual(problems, ['lost: n-200.allowed.test, sent at 1000 ms']);
    const loads = [{ questions: [allowed], records: [{ ...right, latencyMs: 1001 }], asker: 'n2' }];
    const late = judged(allowed, silent, { loads, startedMs: 900 });
    assert.deepEqual(late.problems, ['late: n-200.allowed.test, sent at 100 ms by n2, 1001 ms']);
  });
});

test('recovery: the disturbance that the fault made, not a hiccup much later', () => {
  const load = (...records: (readonly [sentMs: number, latencyMs: number | null])[]) => [
    {
      questions: [allowed],
      records: records.map(([sentMs, latencyMs]) => ({ ...right, sentMs, latencyMs })),
    },
  ];
  assert.equal(recoveryMs(load([100, 20], [900, 20]), 500), 0);
  const slow = slowMs + 40;
  assert.equal(recoveryMs(load([490, slow], [600, slow], [2000, slow]), 500), 100 + slow);
  assert.equal(recoveryMs(load([2000, slow]), 500), 0);
});

test('a timeline has the slowest answer of each interval and what was lost', () => {
  const records = [
    { ...right, sentMs: 1001, latencyMs: 20 },
    { ...right, sentMs: 1009, latencyMs: 31.26 },
    { ...silent, sentMs: 1021 },
  ];
  const { bucketMs, slowestMs, lost } = timelineOf([{ questions: [allowed], records }], 1000, []);
  assert.deepEqual([bucketMs, slowestMs, lost], [10, [31.3, null, null], { 2: 1 }]);
});

describe('names', () => {
  test('the same seed asks the same, another one something else', () => {
    const of = (seed: number): string =>
      new Names(new Random(seed, 'test'))
        .take(50)
        .map(({ name }) => name)
        .join(' ');
    assert.equal(of(1), of(1));
    assert.notEqual(of(1), of(2));
  });

  test('fresh and denied names never come twice, and the address is that of the number', () => {
    const questions = new Names(new Random(1, 'test')).take(2000);
    const once = questions.filter(({ kind }) => kind !== 'known').map(({ name }) => name);
    assert.equal(new Set(once).size, once.length);
    assert.ok(questions.some(({ kind }) => kind === 'denied'));
    for (const { name, address } of questions) {
      assert.equal(address, addressOf(Number(/-(\d+)\./.exec(name)?.[1])));
    }
    assert.deepEqual([addressOf(65_536), addressOf(131_072)], ['198.19.0.0', '198.18.0.0']);
  });

  test('only addresses of names that were asked may be learned', () => {
    const names = new Names(new Random(1, 'test'));
    names.take(100);
    assert.ok(names.mayBeLearned('198.18.0.1'));
    for (const address of ['198.18.0.0', '198.19.255.255', '203.0.113.200', '2001:db8::1']) {
      assert.ok(!names.mayBeLearned(address), address);
    }
    while (names.take(1000).every(({ address }) => address !== '198.18.0.0'));
    assert.ok(names.mayBeLearned('198.18.0.0'), 'once the addresses come round again');
  });
});

test('random numbers are the same for a seed and purpose, and spread', () => {
  const drawn = (purpose: string): number[] => {
    const random = new Random(7, purpose);
    return Array.from({ length: 1000 }, () => random.between(1, 10));
  };
  assert.deepEqual(drawn('a'), drawn('a'));
  assert.notDeepEqual(drawn('a'), drawn('b'));
  for (let value = 1; value <= 10; value++) {
    const count = drawn('a').filter((one) => one === value).length;
    assert.ok(count > 60 && count < 140, `${value}: ${count}`);
  }
});
