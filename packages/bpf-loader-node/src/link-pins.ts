// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors
//
// Pinned tcx links, made off the calling thread: the kernel waits for a grace period of RCU at each, with the RTNL lock held.

import type { BpfError } from './errors.ts';
import { type TcxDirection, tcxAttach, tcxFlag } from './link.ts';
import { native } from './native.ts';
import type { BpfProgram } from './program.ts';

/** Interfaces of one call: the thread cannot be stopped before all are done, and the end of the process waits for it. */
export const tcxPinsMax = 16;

export interface TcxPins {
  readonly program: BpfProgram;
  readonly direction: TcxDirection;
  /** Whether a new link comes before or after all others. A link that is there keeps its place. */
  readonly place: 'first' | 'last';
  /** Path of the pins, in a bpffs, without the index of the interface that ends each. */
  readonly prefix: string;
  /** At most `tcxPinsMax`. */
  readonly ifindexes: readonly number[];
}

/**
 * Has the program at each interface, by a link that is pinned at `prefix` and the interface's index: a link that is there gets
 * the program, a pin whose interface is gone is replaced. Gives the errors by place, null where the link is there. The
 * program may be disposed meanwhile.
 */
export function ensureTcxPins(pins: TcxPins): Promise<readonly (BpfError | null)[]> {
  const { program, direction, place, prefix, ifindexes } = pins;
  const flags = place === 'first' ? tcxFlag.before : tcxFlag.after;
  const words = Uint32Array.from(ifindexes);
  return native.linkEnsureTcxPins(program.handle, tcxAttach[direction], flags, prefix, words);
}
