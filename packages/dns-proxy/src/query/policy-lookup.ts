// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * What is to happen to a query, whatever the transport: who asks, whom, by which policy, and whether
 * the name passes. Remembered per (client, server, protocol), so that the usual query is one lookup and
 * one walk of the automaton.
 */

import type { QueryView } from '@tandem/core/dns/query';
import { tdEndpoint } from '@tandem/datapath/abi.gen';
import type { EndpointLookup } from '@tandem/datapath/agent-table';
import { counter } from '../counters.ts';
import type { GroupMember } from '../group.ts';
import type { EndpointLimits } from '../policy/endpoint-limits.ts';
import type { FlowTable } from '../policy/flow-table.ts';
import type { PolicyTables } from '../policy/tables.ts';
import type { UdpPool } from '../udp/upstream.ts';

/** Results of {@link PolicyLookup.flowOf} that are no flow. */
export const unknownSource = -1;
export const notReady = -2;

export class PolicyLookup {
  readonly flows: FlowTable;
  readonly limits: EndpointLimits;
  #endpoints: Pick<EndpointLookup, 'lookupInto'>;
  readonly #group: GroupMember;
  readonly #pool: UdpPool;
  readonly #counters: Float64Array;
  readonly #endpointKey = new Uint8Array(16);
  readonly #endpointKeyWords = new Uint32Array(this.#endpointKey.buffer);
  readonly #endpointValue = new Uint8Array(tdEndpoint.size);
  readonly #endpointWords = new Uint32Array(this.#endpointValue.buffer);
  readonly #server = new Uint8Array(16);
  readonly #serverWords = new Uint32Array(this.#server.buffer);
  #tables: PolicyTables | null = null;
  #generation = -1;
  #limitsGeneration = 0;
  #poolGeneration = 0;
  /** Accept set of the last name that `isAllowed` judged. */
  acceptSet = 0;
  /** How often tables were installed: accept sets of other tables mean nothing. */
  installs = 0;

  constructor(options: {
    readonly flows: FlowTable;
    readonly limits: EndpointLimits;
    readonly endpoints: Pick<EndpointLookup, 'lookupInto'>;
    readonly group: GroupMember;
    readonly pool: UdpPool;
    readonly counters: Float64Array;
  }) {
    this.flows = options.flows;
    this.limits = options.limits;
    this.#endpoints = options.endpoints;
    this.#group = options.group;
    this.#pool = options.pool;
    this.#counters = options.counters;
  }

  get tables(): PolicyTables | null {
    return this.#tables;
  }

  /** From now on this revision decides. */
  install(tables: PolicyTables): void {
    this.#tables = tables;
    this.installs += 1;
    this.#flush();
    this.#group.setRevision(tables.revision);
  }

  /** From now on endpoints are looked up here. */
  follow(endpoints: EndpointLookup): void {
    this.#endpoints = endpoints;
    this.#flush();
  }

  /** Before a batch: forget what is remembered if endpoints, limiter slots or servers changed. */
  begin(): void {
    const { generation } = this.#group;
    // Odd: endpoints are being changed, by an agent that may have died over it.
    const isSteady = (generation & 1) === 0;
    if (
      isSteady &&
      generation === this.#generation &&
      this.limits.generation === this.#limitsGeneration &&
      this.#pool.generation === this.#poolGeneration
    ) {
      return;
    }
    this.#generation = generation;
    this.#flush();
  }

  /**
   * The flow of (client, server, protocol), each address 4 words in `words`; or `unknownSource`, or
   * `notReady` when this member cannot judge it (counted; the answer is SERVFAIL, never a refusal).
   */
  flowOf(
    words: Uint32Array,
    client: number,
    server: number,
    protocol: number,
    nowMs: number,
  ): number {
    const flow = this.flows.find(words, client, server, protocol);
    return flow >= 0 ? flow : this.#lookup(words, client, server, protocol, nowMs);
  }

  /** Whether the flow's rule set allows the name; leaves its accept set in `acceptSet`. */
  isAllowed(flow: number, query: QueryView): boolean {
    const tables = this.#tables as PolicyTables;
    this.acceptSet = tables.matcher.match(query);
    return tables.isAllowed(this.flows.ruleSet[flow] as number, this.acceptSet);
  }

  #lookup(
    words: Uint32Array,
    client: number,
    server: number,
    protocol: number,
    nowMs: number,
  ): number {
    for (let i = 0; i < 4; i++) {
      this.#endpointKeyWords[i] = words[client + i] as number;
      this.#serverWords[i] = words[server + i] as number;
    }
    if (!this.#endpoints.lookupInto(this.#endpointKey, this.#endpointValue)) return unknownSource;
    const policyId = this.#endpointWords[tdEndpoint.policy_id / 4] as number;
    const tables = this.#tables;
    if (tables === null || !tables.hasPolicy(policyId))
      return this.#notReady(counter.unknownPolicy);
    const ruleSet = tables.ruleSetOf(policyId, words, server, protocol);
    if (ruleSet < 0) return this.#notReady(counter.unknownServer);
    const serverIndex = this.#pool.serverIndex(this.#server, nowMs);
    const endpointId = this.#endpointWords[tdEndpoint.id / 4] as number;
    const endpointSlot = this.limits.slotOf(endpointId, nowMs);
    if (serverIndex < 0 || endpointSlot < 0) return this.#notReady(counter.refusedUpstreamSockets);
    // Either may have made room by forgetting something that a remembered flow still names.
    this.begin();
    const { flows } = this;
    const flow = flows.insert(words, client, server, protocol);
    flows.endpointSlot[flow] = endpointSlot;
    flows.ruleSet[flow] = ruleSet;
    flows.server[flow] = serverIndex;
    flows.policyId[flow] = policyId;
    flows.namespaceId[flow] = this.#endpointWords[tdEndpoint.namespace_id / 4] as number;
    flows.trusted[flow] = tables.isTrusted(words, server) ? 1 : 0;
    return flow;
  }

  #notReady(reason: number): number {
    this.#counters[reason] = (this.#counters[reason] as number) + 1;
    return notReady;
  }

  #flush(): void {
    this.#limitsGeneration = this.limits.generation;
    this.#poolGeneration = this.#pool.generation;
    this.flows.clear();
    this.#counters[counter.flowTableFlushes] =
      (this.#counters[counter.flowTableFlushes] as number) + 1;
  }
}
