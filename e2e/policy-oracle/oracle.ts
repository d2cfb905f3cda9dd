// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The Go program that asks Kubernetes' API server and Cyclonus (main.go), and what it answers. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { binary, buildPrograms } from '../cluster/programs.ts';
import { Progress } from '../cluster/progress.ts';
import type { Raw } from './cluster.ts';
import { oracleQuestion, questions } from './questions.ts';

export interface OracleAnswer {
  /** For each policy why the API server refuses it; "" if it does not. */
  readonly refusals: readonly string[];
  /** A digit for each question, 1: allowed; "" if a policy is refused. */
  readonly verdicts: string;
}

/** Documents that kubectl reads in a text. */
export interface OracleReading {
  readonly documents?: readonly unknown[];
  /** Why it stopped; absent: it did not. */
  readonly unreadable?: string;
}

/** About sets of policies. @throws Error what it wrote to stderr */
export function askOracle(
  sets: readonly (readonly Raw[])[],
  onAnswer: (answer: OracleAnswer, index: number) => void,
): Promise<void> {
  const requests = sets.map((policies) => ({ policies }));
  return ask(requests, (answer, index) => onAnswer(answer as OracleAnswer, index));
}

/** About the texts of files. */
export function askReading(
  texts: readonly string[],
  onReading: (reading: OracleReading, index: number) => void,
): Promise<void> {
  const requests = texts.map((text) => ({ text }));
  return ask(requests, (answer, index) => onReading(answer as OracleReading, index));
}

/** Builds the program when the cache does not have it. */
async function ask(
  requests: readonly Raw[],
  onAnswer: (answer: unknown, index: number) => void,
): Promise<void> {
  await buildPrograms(['oracle'], new Progress());
  const child = spawn(binary('oracle'), { stdio: ['pipe', 'pipe', 'inherit'] });
  const exited = once(child, 'exit');
  const writing = (async () => {
    for (const line of [{ questions: questions.map(oracleQuestion) }, ...requests]) {
      if (!child.stdin.write(`${JSON.stringify(line)}\n`)) await once(child.stdin, 'drain');
    }
    child.stdin.end();
  })();
  let index = 0;
  for await (const line of createInterface({ input: child.stdout })) {
    onAnswer(JSON.parse(line), index++);
  }
  await writing;
  const [code] = (await exited) as [number | null];
  if (code !== 0 || index !== requests.length) {
    throw new Error(`oracle ended with ${code} after ${index} of ${requests.length} answers`);
  }
}
