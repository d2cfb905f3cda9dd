// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The time of the batch at work, read once and used for all that is done in it. */
export interface Moment {
  /** CLOCK_MONOTONIC, nanoseconds. */
  readonly monotonicNs: number;
  /** CLOCK_BOOTTIME, nanoseconds. */
  readonly boottimeNs: number;
}
