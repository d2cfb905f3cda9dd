// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A mutation: one line of a safety rule, broken, and the tests that must find it. */

export interface Mutation {
  readonly rule: number;
  readonly file: string;
  /** Consequence of the break. */
  readonly what: string;
  readonly find: string;
  readonly replace: string;
  readonly tests: readonly string[];
}

export type Row = readonly [what: string, find: string, replace: string];

/** Tests of the BPF programs by name. */
export const inTests = (...names: readonly string[]): readonly string[] =>
  names.map((name) => `bpf/tests/${name}.test.ts`);
/** Tests of the agent by their path in its sources. */
export const inAgent = (...names: readonly string[]): readonly string[] =>
  names.map((name) => `packages/agent/src/${name}.test.ts`);

/** Breaks of one file that the same tests must find. */
export const of = (
  rule: number,
  file: string,
  tests: readonly string[],
  rows: readonly Row[],
): readonly Mutation[] =>
  rows.map(([what, find, replace]) => ({ rule, file, what, find, replace, tests }));
