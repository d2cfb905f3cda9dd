// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Makes facts.json again, when what is generated or a version has changed: needs Go. Takes a seed, or keeps the one of before. */

import { cyclonusVersion, kubernetesVersion } from '../cluster/programs.ts';
import { digestOf, type Facts, pack, readFacts, takenOf, writeFacts } from './facts.ts';
import { forCyclonus, knownDifferences } from './known.ts';
import { mutants } from './mutants.ts';
import { askOracle, askReading } from './oracle.ts';
import { generate } from './policies.ts';
import { texts } from './texts.ts';

const policyCount = 300;
const mutantCount = 3000;

const seed = Number(process.argv[2] ?? readFacts().seed);
const sets = generate(seed, policyCount);
const mutated = mutants(seed, mutantCount);
const verdicts: string[] = [];
const refusals: string[] = [];
await askOracle(
  [...sets.map(forCyclonus), ...knownDifferences.map((policy) => [policy])],
  ({ verdicts: text }) => verdicts.push(pack(text)),
);
await askOracle(
  mutated.map((policy) => [policy]),
  (answer) => refusals.push(answer.refusals[0] ?? ''),
);
const readings: string[] = [];
await askReading(
  texts.map(({ text }) => text),
  ({ documents = [], unreadable }) =>
    readings.push(JSON.stringify(unreadable === undefined ? documents : [...documents, null])),
);
const facts: Facts = {
  ...{ cyclonus: cyclonusVersion, kubernetes: kubernetesVersion },
  ...{ seed, policies: policyCount, mutants: mutantCount },
  inputs: digestOf(sets, mutated, knownDifferences, texts),
  sets: verdicts.slice(0, sets.length),
  taken: refusals.map(takenOf).join(''),
  known: verdicts.slice(sets.length).join(' '),
  readings,
};
writeFacts(facts);
