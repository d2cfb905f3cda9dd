// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * NetworkPolicies as two programs read them that were not written here: what Cyclonus says is allowed is what our maps allow, and
 * what Kubernetes' API server takes or refuses we take or refuse, but for the differences that known.ts and facts.ts list. In
 * short about recorded answers (facts.json), in the long tier about policies that the programs are asked for now.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Raw } from './cluster.ts';
import { deliberate, digestOf, readFacts, type Taken, takenOf, unpack } from './facts.ts';
import { forCyclonus, knownDifferences } from './known.ts';
import { mutants } from './mutants.ts';
import { askOracle } from './oracle.ts';
import { generate } from './policies.ts';
import { questions } from './questions.ts';
import { texts } from './texts.ts';
import { ourReading, ourRefusals, ourVerdicts } from './verdicts.ts';

const isFull = process.env['TANDEM_TEST_TIER'] === 'full';
const seed = Number(process.env['TANDEM_FUZZ_SEED'] ?? 20261129);
const longCount = 10_000;

const facts = readFacts();
const sets = generate(facts.seed, facts.policies);
const mutated = mutants(facts.seed, facts.mutants);

function compareVerdicts(set: readonly Raw[], verdicts: string): void {
  const ours = ourVerdicts(set);
  if (ours === verdicts) return;
  const different = questions
    .map((question, index) => ({ ...question, ours: ours[index], cyclonus: verdicts[index] }))
    .filter((answer) => answer.ours !== answer.cyclonus);
  assert.fail(`${different.length} answers differ: ${JSON.stringify({ different, set }, null, 1)}`);
}

function compareTaken(mutant: Raw, taken: Taken, reason: string): void {
  const refusals = ourRefusals(mutant);
  const isAlike =
    taken === '.'
      ? refusals.every((each) => deliberate.test(each))
      : taken !== '-' || refusals.length > 0;
  assert.ok(isAlike, JSON.stringify({ mutant, refusals, taken, reason }, null, 1));
}

test('the facts are about what is generated', () => {
  const advice = 'run e2e/policy-oracle/record.ts, with --conditions=@tandem/source';
  assert.equal(facts.inputs, digestOf(sets, mutated, knownDifferences, texts), advice);
});

test('what Cyclonus allows is what the maps allow', () => {
  for (const [index, set] of sets.entries()) compareVerdicts(set, unpack(facts.sets[index] ?? ''));
  // Neither answer is the usual one, or nothing would be compared.
  const allowed = facts.sets.map((text) => unpack(text).replaceAll('0', '').length);
  const share = allowed.reduce((sum, count) => sum + count, 0) / (sets.length * questions.length);
  assert.ok(share > 0.2 && share < 0.8, `${share} of the answers allow`);
});

test('what the API server takes is taken, and what it refuses refused', () => {
  for (const [index, mutant] of mutated.entries()) {
    compareTaken(mutant, facts.taken[index] as Taken, 'recorded');
  }
  const taken = facts.taken.replaceAll(/[^.]/g, '').length / mutated.length;
  assert.ok(taken > 0.2 && taken < 0.8, `${taken} of the objects are taken`);
});

test('a file holds what kubectl reads in it', () => {
  for (const [index, { text, difference }] of texts.entries()) {
    const [ours, theirs] = [ourReading(text), JSON.parse(facts.readings[index] ?? '')];
    const message = `${JSON.stringify(text)} ${difference ?? ''}`;
    if (difference === undefined) assert.deepEqual(ours, theirs, message);
    else assert.notDeepEqual(ours, theirs, message);
  }
});

test('the known differences of Cyclonus are still there, and rewritten it agrees', () => {
  for (const [index, policy] of knownDifferences.entries()) {
    const told = unpack(facts.known.split(' ')[index] ?? '');
    assert.notEqual(ourVerdicts([policy]), told, JSON.stringify(policy));
    const rewritten = forCyclonus([policy]);
    assert.equal(ourVerdicts([policy]), ourVerdicts(rewritten), JSON.stringify(rewritten));
  }
});

test(`${longCount} policies of Cyclonus, and mutants of the API server`, {
  skip: !isFull,
}, async (t) => {
  t.diagnostic(`seed ${seed}`);
  const long = generate(seed, longCount);
  await askOracle(long.map(forCyclonus), ({ verdicts }, index) => {
    compareVerdicts(long[index] ?? [], verdicts);
  });
  const strange = mutants(seed, longCount);
  await askOracle(
    strange.map((mutant) => [mutant]),
    ({ refusals: [refusal = ''] }, index) => {
      compareTaken(strange[index] ?? {}, takenOf(refusal), refusal);
    },
  );
});
