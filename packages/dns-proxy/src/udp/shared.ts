// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import type { UdpLoop } from '@tandem/dns-sockets/udp-loop';
import type { QuerySlots } from '../journal/slots.ts';
import type { ListenerHandle } from '../listener-kinds.ts';
import type { QueryPath } from '../query/query-path.ts';
import type { Batch } from './batch.ts';
import type { UpstreamIds } from './ids.ts';
import type { UdpPool } from './upstream.ts';
import type { SocketHandle } from './upstream-sockets.ts';

/** Objects that all parts of the UDP transport use; each takes the ones that it names. */
export interface UdpShared extends QueryPath {
  /** The journal: holds the slots, and in its scratch cells room for a batch of replies. */
  readonly memory: Uint8Array;
  readonly slots: QuerySlots;
  readonly listeners: UdpLoop<ListenerHandle>;
  readonly upstreams: UdpLoop<SocketHandle>;
  readonly pool: UdpPool;
  readonly ids: UpstreamIds;
  /** The batch at work. */
  readonly batch: Batch;
}
