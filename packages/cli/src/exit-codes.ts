// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Exit codes of `tandem`: an interface for scripts, the same for every command. */

export const exitCode = {
  /** Done; for `status` healthy, for `doctor` and `policy validate` nothing that fails. */
  ok: 0,
  /** Degraded, a check failed, or a file has errors: the output says what and how to fix it. */
  problem: 1,
  /** The command line or the configuration is wrong; nothing was done. */
  usage: 2,
  /** No member serves DNS (`status`), or no process of the node answers. */
  down: 3,
} as const;
export type ExitCode = (typeof exitCode)[keyof typeof exitCode];

/** For `--help`. */
export const exitCodeHelp: string = [
  'Exit codes:',
  '  0  done: healthy, nothing failed',
  '  1  degraded (status), a check failed (doctor), or errors in files (policy validate)',
  '  2  wrong usage or configuration',
  '  3  no process serves DNS (status), or neither process of the node answers',
].join('\n');
