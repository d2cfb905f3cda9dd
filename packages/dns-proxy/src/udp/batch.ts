// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The batch at work: its number and its time, read once per batch and used by all that handle it. */

import type { Moment } from '../query/moment.ts';

export class Batch implements Moment {
  /** Number of the batch: all queries of one batch to one server leave by one socket. Wraps to 0: -1 is no batch. */
  number = 0;
  monotonicNs = 0;
  boottimeNs = 0;

  /** A batch at the time of `clock`: CLOCK_MONOTONIC and CLOCK_BOOTTIME, nanoseconds. */
  begin(clock: Float64Array): void {
    this.number = (this.number + 1) & 0x7fffffff;
    this.monotonicNs = clock[0]!;
    this.boottimeNs = clock[1]!;
  }
}
