// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** ./run chaos --list: what is done to Tandem, and what would have to be but cannot. */

import { parts } from './catalogue.ts';
import { faults } from './parts/faults.ts';

/** Faults that were asked for and cannot be made here, with the reason. */
export const impossible: readonly (readonly [fault: string, reason: string])[] = [
  [
    'bpffs full',
    'a bpffs has no size or inode limit of its own, so a pin fails only when the kernel has no memory; that ' +
      'was not brought about',
  ],
  [
    'jump of CLOCK_MONOTONIC or CLOCK_BOOTTIME',
    'a suspend does that to the whole machine; a time namespace moves them for a process alone, and BPF, ' +
      'which compares beats with its own clock, is never in one',
  ],
  [
    'jump of the wall clock of the machine',
    'it would jump for all that runs here; it is made for one process by a preloaded library',
  ],
];

export function listText(): string {
  const lines = ['Parts:', ...parts.map(({ name, what }) => row(name, what))];
  lines.push('', 'Faults of the part "faults":');
  lines.push(
    ...faults.map(({ name, what, victims }) => row(name, `${what} (${victims.join(', ')})`)),
  );
  lines.push('', 'Cannot be had:', ...impossible.map(([fault, reason]) => `  ${fault}: ${reason}`));
  return `${lines.join('\n')}\n`;
}

const row = (name: string, what: string): string => `  ${name.padEnd(20)} ${what}`;
