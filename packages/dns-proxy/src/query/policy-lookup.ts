// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Finds the policy for a query, for every transport: the endpoint of the client and the rule set for the server. The result is
 * cached per (client, server, protocol), so that most queries cost one lookup and one walk of the automaton.
 */

import type { AcceptSet } from '@tandem/core/dns/matcher';
import type { QueryView } from '@tandem/core/dns/query';
import type { PolicyId } from '@tandem/core/ids';
import { tdEndpoint } from '@tandem/datapath/abi.gen';
import type { EndpointLookup } from '@tandem/datapath/agent-table';
import type { NodeGroup } from '@tandem/datapath/group';
import { counter } from '../counters.ts';
import type { GroupMember } from '../group-member.ts';
import type { Flow, FlowTable } from '../policy/flow-table.ts';
import type { QueryLimits } from '../policy/query-limits.ts';
import type { PolicyTables, RuleSetIndex } from '../policy/tables.ts';

/** Results of {@link PolicyLookup.flowOf} that are no flow. */
export const unknownSource = -1 as Flow;
export const notReady = -2 as Flow;

export class PolicyLookup {
  readonly flows: FlowTable;
  readonly limits: QueryLimits;
  #endpoints: Pick<EndpointLookup, 'lookupInto'>;
  readonly #self: GroupMember;
  readonly #group: NodeGroup;
  readonly #counters: Float64Array;
  readonly #endpointKey = new Uint8Array(16);
  readonly #endpointKeyWords = new Uint32Array(this.#endpointKey.buffer);
  readonly #endpointValue = new Uint8Array(tdEndpoint.size);
  readonly #endpointWords = new Uint32Array(this.#endpointValue.buffer);
  #tables: PolicyTables | null = null;
  #groupGeneration = -1;
  #limitsGeneration = 0;
  /** How often tables were installed: accept sets of other tables mean nothing. */
  installs = 0;

  constructor(options: {
    readonly flows: FlowTable;
    readonly limits: QueryLimits;
    readonly endpoints: Pick<EndpointLookup, 'lookupInto'>;
    readonly self: GroupMember;
    readonly counters: Float64Array;
  }) {
    this.flows = options.flows;
    this.limits = options.limits;
    this.#endpoints = options.endpoints;
    this.#self = options.self;
    this.#group = options.self.group;
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
    this.#self.setRevision(tables.revision);
  }

  /** From now on endpoints are looked up here. */
  follow(endpoints: Pick<EndpointLookup, 'lookupInto'>): void {
    this.#endpoints = endpoints;
    this.#flush();
  }

  /** Generation of the endpoints by which flows are decided since the last `begin`; odd: they were being changed. */
  get endpointsGeneration(): number {
    return this.#groupGeneration;
  }

  /** Generation of the endpoints by now. */
  get newestGeneration(): number {
    return this.#group.generation;
  }

  /** Before a batch: empties the cache if endpoints or limiter slots changed. */
  begin(): void {
    const { generation } = this.#group;
    // Odd: endpoints are being changed, by an agent that may have died over it.
    const isSteady = (generation & 1) === 0;
    if (
      isSteady &&
      generation === this.#groupGeneration &&
      this.limits.generation === this.#limitsGeneration
    ) {
      return;
    }
    this.#groupGeneration = generation;
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
  ): Flow {
    const flow = this.flows.find(words, client, server, protocol);
    return flow >= 0 ? flow : this.#lookup(words, client, server, protocol, nowMs);
  }

  /** Accept set of the name that was asked, by the tables in force. */
  acceptSetOf(query: QueryView): AcceptSet {
    return (this.#tables as PolicyTables).matcher.match(query);
  }

  /** Whether the flow's rule set allows names of the accept set that was found last. */
  isAllowed(flow: Flow, acceptSet: AcceptSet): boolean {
    return (this.#tables as PolicyTables).isAllowed(
      this.flows.ruleSet[flow]! as RuleSetIndex,
      acceptSet,
    );
  }

  /**
   * Whether the address, 4 words at `client` of `words`, is still the endpoint's, as it was in `generation`. `judge` lets replies of
   * members through, so one that comes late must not reach the pod that has the address by now (rule 18).
   */
  isStillOf(generation: number, endpointId: number, words: Uint32Array, client: number): boolean {
    const isSteady = (generation & 1) === 0 && this.#group.generation === generation;
    return isSteady || this.isAddressOf(endpointId, words, client);
  }

  /** Whether the address, 4 words at `client` of `words`, is now the endpoint's. */
  isAddressOf(endpointId: number, words: Uint32Array, client: number): boolean {
    return (
      this.#readEndpoint(words, client) && this.#endpointWords[tdEndpoint.id / 4] === endpointId
    );
  }

  #readEndpoint(words: Uint32Array, client: number): boolean {
    for (let i = 0; i < 4; i++) this.#endpointKeyWords[i] = words[client + i]!;
    return this.#endpoints.lookupInto(this.#endpointKey, this.#endpointValue);
  }

  #lookup(
    words: Uint32Array,
    client: number,
    server: number,
    protocol: number,
    nowMs: number,
  ): Flow {
    if (!this.#readEndpoint(words, client)) return unknownSource;
    const policyId = this.#endpointWords[tdEndpoint.policy_id / 4]! as PolicyId;
    const tables = this.#tables;
    if (tables === null || !tables.hasPolicy(policyId))
      return this.#notReady(counter.unknownPolicy);
    const ruleSet = tables.ruleSetOf(policyId, words, server, protocol);
    if (ruleSet < 0) return this.#notReady(counter.unknownServer);
    const endpointId = this.#endpointWords[tdEndpoint.id / 4]!;
    const endpointSlot = this.limits.endpointSlot(endpointId, nowMs);
    const policySlot = this.limits.policySlot(policyId, nowMs);
    if (endpointSlot < 0 || policySlot < 0) return this.#notReady(counter.refusedOwners);
    // Either may have taken the slot of an owner that a remembered flow still names. The endpoint was read before now, so the
    // flow is of the generation of the last `begin`, whatever it is by now.
    if (this.limits.generation !== this.#limitsGeneration) this.#flush();
    const { flows } = this;
    const flow = flows.insert(words, client, server, protocol);
    flows.endpointSlot[flow] = endpointSlot;
    flows.ruleSet[flow] = ruleSet;
    flows.policySlot[flow] = policySlot;
    flows.server[flow] = 0;
    flows.policyId[flow] = policyId;
    flows.namespaceId[flow] = this.#endpointWords[tdEndpoint.namespace_id / 4]!;
    flows.trusted[flow] = tables.isTrusted(words, server) ? 1 : 0;
    return flow;
  }

  #notReady(reason: number): Flow {
    this.#counters[reason] = this.#counters[reason]! + 1;
    return notReady;
  }

  #flush(): void {
    this.#limitsGeneration = this.limits.generation;
    this.flows.clear();
    this.#counters[counter.flowTableFlushes] = this.#counters[counter.flowTableFlushes]! + 1;
  }
}
