// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import type { UdpLoop } from '@tandem/dns-sockets/udp-loop';
import type { QueryPath } from '../query/query-path.ts';
import type { Batch } from './batch.ts';
import type { Forwards } from './forwards.ts';
import type { UpstreamIds } from './ids.ts';
import type { InFlight } from './in-flight.ts';
import type { Outgoing } from './outgoing.ts';
import type { QuerySlots } from './slots.ts';
import type { Timeouts } from './timeouts.ts';
import type { UdpPool } from './upstream.ts';

/** What the parts of the UDP transport are made of; each takes those it names. */
export interface UdpParts extends QueryPath {
  /** The journal: holds the slots, and in its scratch cells room for a batch of replies. */
  readonly memory: Uint8Array;
  readonly slots: QuerySlots;
  readonly listeners: UdpLoop;
  readonly upstreams: UdpLoop;
  readonly pool: UdpPool;
  readonly ids: UpstreamIds;
  /** The batch at work. */
  readonly batch: Batch;
  readonly inFlight: InFlight;
  readonly timeouts: Timeouts;
  readonly forwards: Forwards;
  readonly outgoing: Outgoing;
}
