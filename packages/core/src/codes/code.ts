// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * One row of the catalogue of codes. Each kind of code is one table in this folder (drop reasons, which belong to the ABI, and
 * checks of `tandem doctor` are beside what raises them). Code that raises a code takes its name, and where the text is the same each time
 * also the text, from the table. Codes are API: one is added or retired with a line in the changelog, and never means something else.
 */

export const codeSeverities = ['critical', 'error', 'warning', 'info'] as const;

/**
 * - `critical`: packets pass that policy denies, pods get no DNS answers, or pods do not start.
 * - `error`: a promise does not hold for a part of the pods, names or objects.
 * - `warning`: everything works; a spare process, a resource or a precaution is missing, or a policy is probably not meant so.
 * - `info`: expected, for example during an upgrade.
 */
export type CodeSeverity = (typeof codeSeverities)[number];

export interface CodeText {
  readonly severity: CodeSeverity;
  /** The event, or the promise that does not hold, and the consequence. A clause: no capital letter, no full stop. */
  readonly meaning: string;
  /** Action of the operator. A clause, which begins with a verb. */
  readonly fix: string;
}

export type CodeTable<Code extends string = string> = Readonly<Record<Code, CodeText>>;
