// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import type { Moment } from '../query/moment.ts';
import type { QueryPath } from '../query/query-path.ts';
import type { RandomSource } from '../query/random.ts';
import type { TcpBlocks } from './blocks.ts';
import type { TcpOctets } from './octets.ts';
import type { TcpSystem } from './stream.ts';
import type { TcpTurns } from './turns.ts';

/** Objects that connections of pods and connections to servers share. */
export interface TcpShared extends QueryPath {
  readonly random: RandomSource;
  readonly system: TcpSystem;
  readonly turns: TcpTurns;
  readonly octets: TcpOctets;
  readonly blocks: TcpBlocks;
  /** Gives a block back: one function for all writes. */
  readonly giveBackBlock: (bytes: Uint8Array) => void;
  /** The time of the turn at work. */
  readonly moment: Moment;
}
