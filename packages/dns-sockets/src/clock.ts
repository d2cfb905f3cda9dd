// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Kernel clocks without allocation. Heartbeats use the monotonic one, expiry the boottime one. */

import { native } from './native.ts';

/**
 * Stores CLOCK_MONOTONIC in `out[0]` and, if there is room, CLOCK_BOOTTIME in `out[1]`; both in
 * nanoseconds, each by one 8-byte store (an array over a shared map is never seen torn). As float64
 * the value is exact to 104 days of uptime and to 2 ns after.
 */
export function clockInto(out: Float64Array | BigInt64Array | BigUint64Array): void {
  native.clockInto(out);
}

const scratch = new Float64Array(2);

/** CLOCK_MONOTONIC in nanoseconds, the clock of bpf_ktime_get_ns. */
export function monotonicNs(): number {
  native.clockInto(scratch);
  return scratch[0]!;
}

/** CLOCK_BOOTTIME in seconds with its fraction: goes on while the machine sleeps. */
export function boottimeSeconds(): number {
  native.clockInto(scratch);
  return scratch[1]! / 1e9;
}
