// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The facts of one query, for every transport: client, server, and the policy that allowed it. A transport fills one object
 * from its own record of the query, and passes it to the code that both transports share.
 */

import type { AcceptSet } from '@tandem/core/dns/matcher';
import { type NamespaceId, noPolicy, type PolicyId } from '@tandem/core/ids';
import type { Flow } from '../policy/flow-table.ts';
import type { EndpointSlot, PolicySlot } from '../policy/owner-slots.ts';

export const protocolTcp = 6;
export const protocolUdp = 17;

export class QueryFacts {
  readonly protocol: typeof protocolTcp | typeof protocolUdp;
  /** Holds both addresses, 4 words each, in memory order. */
  words: Uint32Array = new Uint32Array(8);
  client = 0;
  server = 4;
  clientPort = 0;
  /** When the query was received, microseconds, monotonic. */
  startedUs = 0;

  /** From here on: set by `decide` (decide.ts) for a query that it forwards or denies. */
  flow = -1 as Flow;
  endpointSlot = 0 as EndpointSlot;
  policySlot = 0 as PolicySlot;
  policyId: PolicyId = noPolicy;
  namespaceId = 0 as NamespaceId;
  /** The server is a resolver of the cluster: its answers count for the selectors of all policies. */
  isTrusted = false;
  /** Accept set of the name, in the tables of the `installs`-th installation. */
  acceptSet = 0 as AcceptSet;
  installs = 0;

  constructor(protocol: typeof protocolTcp | typeof protocolUdp) {
    this.protocol = protocol;
  }
}
