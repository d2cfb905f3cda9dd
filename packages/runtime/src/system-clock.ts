// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

// Time, to be handed in by constructor so that tests and the simulator can hand in theirs. Heartbeats and
// timeouts go by the monotonic clock, expiry of names by the boot-time clock (it runs on while the machine
// sleeps, and the BPF programs read the same), wall time only goes to disk and to people.

import { boottimeSeconds, monotonicNs } from '@tandem/dns-sockets/clock';

export interface Clock {
  /** CLOCK_MONOTONIC, ms with its fraction. */
  monotonicMs(): number;
  /** CLOCK_BOOTTIME, seconds with its fraction. */
  boottimeSeconds(): number;
  /** CLOCK_REALTIME, ms since 1970. */
  wallMs(): number;
}

/** The kernel's clocks. */
export const systemClock: Clock = {
  monotonicMs: () => monotonicNs() / 1e6,
  boottimeSeconds,
  wallMs: () => Date.now(),
};

/** Wall clock of a moment of the boot-time clock, ms since 1970: for events shown to people. */
export function boottimeToWallMs(clock: Clock, boottimeNs: number): number {
  return clock.wallMs() - (clock.boottimeSeconds() * 1000 - boottimeNs / 1e6);
}
