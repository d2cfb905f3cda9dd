// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** What a guest finds out, as it writes it for the machine: guest-main.ts writes, main.ts reads. */

export interface ProgramVerdict {
  readonly name: string;
  readonly isAccepted: boolean;
  /** That the verifier walked, in all branches; 0 when refused. */
  readonly instructions: number;
  /** Of the verifier or libbpf; empty when accepted. */
  readonly reason: string;
}

export interface GuestFacts {
  readonly release: string;
  /** What `tandem doctor` would say is missing, with the reason. */
  readonly missing: readonly { readonly name: string; readonly reason: string }[];
  readonly programs: readonly ProgramVerdict[];
  /** All programs and maps together, as the agent loads them; empty when it works. */
  readonly objectError: string;
}

export interface TestResult {
  readonly file: string;
  readonly name: string;
  readonly outcome: 'passed' | 'failed' | 'skipped';
  readonly error: string;
}

export const factsFile = 'facts.json';
export const testsFile = 'tests.jsonl';
