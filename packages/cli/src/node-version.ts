// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Which Node.js runs the programs. Old syntax alone: this file has to run on those that are too old. */

const majorMin = 24;
/** As wrong usage: exit-codes.ts. */
const wrongUsage = 2;

/** Ends the process, with the fix, where Node.js is too old. */
export function requireNode(): void {
  const major = Number(process.versions.node.split('.')[0]);
  if (major >= majorMin) return;
  process.stderr.write(
    `tandem needs Node.js ${majorMin} or newer, and ${process.execPath} is ${process.versions.node}: set TANDEM_NODE to a newer one, or run packages/cli/bin/tandem of a checkout after ./run setup\n`,
  );
  process.exit(wrongUsage);
}
