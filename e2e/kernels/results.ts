// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Findings of a guest, as it writes them for the machine: guest-main.ts writes, main.ts reads. */

export interface ProgramVerdict {
  readonly name: string;
  readonly isAccepted: boolean;
  /** Instructions that the verifier walked, in all branches; 0 when refused. */
  readonly instructions: number;
  /** Message of the verifier or libbpf; empty when accepted. */
  readonly reason: string;
}

export interface GuestFacts {
  readonly release: string;
  /** Features that `tandem doctor` would call missing, with the reason. */
  readonly missing: readonly { readonly name: string; readonly reason: string }[];
  readonly programs: readonly ProgramVerdict[];
  /** All programs and maps together, as the agent loads them; empty when it works. */
  readonly objectError: string;
  readonly doctor: DoctorText;
}

/** Output of `tandem doctor --preflight` there. */
export interface DoctorText {
  readonly code: number | null;
  readonly text: string;
}

export interface TestResult {
  readonly file: string;
  readonly name: string;
  readonly outcome: 'passed' | 'failed' | 'skipped';
  readonly error: string;
}

export const factsFile = 'facts.json';
export const testsFile = 'tests.jsonl';
