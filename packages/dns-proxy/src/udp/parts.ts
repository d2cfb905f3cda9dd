// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import type { Forwards } from './forwards.ts';
import type { InFlight } from './in-flight.ts';
import type { Outgoing } from './outgoing.ts';
import type { UdpShared } from './shared.ts';
import type { Timeouts } from './timeouts.ts';

/** Parts that queries and replies of the UDP transport use, in the order in which they are made. */
export interface UdpParts extends UdpShared {
  readonly outgoing: Outgoing;
  readonly inFlight: InFlight;
  readonly timeouts: Timeouts;
  readonly forwards: Forwards;
}
