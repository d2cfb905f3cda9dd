// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Answers of Kubernetes and Cyclonus, kept in facts.json: ./run test needs neither Go nor their modules. Made by record.ts. */

import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { deflateRawSync, inflateRawSync } from 'node:zlib';
import { questions } from './questions.ts';

export interface Facts {
  /** Versions of the modules that answered. */
  readonly cyclonus: string;
  readonly kubernetes: string;
  /** Seed of `generate` and `mutants`. */
  readonly seed: number;
  readonly policies: number;
  readonly mutants: number;
  /** Digest of the questions and everything that was generated: a fact is about nothing else. */
  readonly inputs: string;
  /** Cyclonus' verdicts of each set, packed. */
  readonly sets: readonly string[];
  /** A letter for each mutant (`Taken`). */
  readonly taken: string;
  /** Cyclonus' verdicts of each of `knownDifferences`, packed, with spaces between. */
  readonly known: string;
  /** Documents that kubectl reads in each of `texts`, as JSON: its documents, and a last null where it cannot go on. */
  readonly readings: readonly string[];
}

const file = fileURLToPath(new URL('facts.json', import.meta.url));

export function readFacts(): Facts {
  return JSON.parse(readFileSync(file, 'utf8')) as Facts;
}

export function writeFacts(facts: Facts): void {
  writeFileSync(file, `${JSON.stringify(facts, null, 2)}\n`);
}

export function digestOf(...inputs: readonly (readonly unknown[])[]): string {
  return createHash('sha256')
    .update(JSON.stringify([questions, inputs]))
    .digest('hex');
}

/** Verdicts, a digit for each question, eight to a byte. */
export function pack(verdicts: string): string {
  const bytes = Buffer.alloc(Math.ceil(verdicts.length / 8));
  for (const [index, digit] of [...verdicts].entries()) {
    if (digit === '1') bytes[index >> 3] = (bytes[index >> 3] ?? 0) | (1 << (index & 7));
  }
  return deflateRawSync(bytes).toString('base64');
}

export function unpack(text: string): string {
  const bytes = inflateRawSync(Buffer.from(text, 'base64'));
  return questions.map((_, index) => ((bytes[index >> 3] ?? 0) >> (index & 7)) & 1).join('');
}

/** `.` the API server takes the object, `-` it refuses it, else why it refuses what a file may have here. */
export type Taken = '.' | '-' | 'n' | 'm' | 'h';

/** Objects that the API server refuses and Tandem takes, with the reason beside each. */
const tolerated: readonly (readonly [Taken, RegExp])[] = [
  // kubectl fills in the namespace of its context, a file is of "default".
  ['n', /^\S+ "\S*" is invalid: metadata.namespace: Required value$/],
  // Of metadata only name and namespace are read.
  ['m', /field ObjectMeta.metadata.(labels|annotations) of type/],
  // Older API servers took it, so there are such objects: a warning.
  ['h', /^[^,]*must not have bits set beyond the prefix length$/],
];

export function takenOf(refusal: string): Taken {
  if (refusal === '') return '.';
  return tolerated.find(([, reason]) => reason.test(refusal))?.[0] ?? '-';
}

/** Objects that the API server takes, because they mean more than they say, and we refuse. */
export const deliberate: RegExp =
  /^(spec is (missing|null)|\S+ has nothing behind its dash|spec\S*\.(matchLabels\.\S+|values\[\d+\]) is null, but must be a text)/;
