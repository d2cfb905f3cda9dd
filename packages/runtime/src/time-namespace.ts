// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Whether this process has other clocks than the node: one in a time namespace (unshare --time, lxc.time.offset, a container that
 * CRIU restored). Programs in the kernel compare heartbeats and expiries with the node's clocks. Source: time_namespaces(7).
 */

import { readFileSync } from 'node:fs';
import { TandemError } from './tandem-error.ts';

/** Difference of the clocks, as "monotonic +50000 s"; empty: none. `text`: content of /proc/self/timens_offsets. */
export function clockOffsets(text: string = readOffsets()): string {
  return text
    .split('\n')
    .flatMap((line) => {
      const [clock = '', seconds = '0', nanoseconds = '0'] = line.trim().split(/\s+/);
      const offset = Number(seconds) + Number(nanoseconds) / 1e9;
      return offset === 0 || !Number.isFinite(offset)
        ? []
        : [`${clock} ${offset > 0 ? '+' : ''}${offset} s`];
    })
    .join(', ');
}

/** @throws TandemError with the fix */
export function requireNodeClocks(): void {
  const offsets = clockOffsets();
  if (offsets === '') return;
  throw new TandemError(
    'TANDEM_CLOCK',
    `this process is in a time namespace whose clocks are not the node's (${offsets}), and the kernel compares its heartbeats and the expiries of names with the node's: start it without that namespace (unshare --time, lxc.time.offset); nothing was changed`,
  );
}

function readOffsets(): string {
  try {
    return readFileSync('/proc/self/timens_offsets', 'utf8');
  } catch {
    // A kernel without time namespaces.
    return '';
  }
}
