// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Replies on their way to a pod: an address is in the datapath before its name's answer reaches the pod, and stays
 * there until its TTL is over, if the pod's namespace wants it and has no more than its share.
 */

import { rcodeNoError } from '@tandem/core/dns/constants';
import type { SimQuery } from './sim-query.ts';
import { clusterWord, names } from './universe.ts';
import { selectorFacts, wantedBy } from './universe-policies.ts';
import type { SimWorker } from './worker.ts';
import type { World } from './world.ts';

export class ReplyCheck {
  readonly #world: World;

  constructor(world: World) {
    this.#world = world;
  }

  onUdp(
    worker: SimWorker,
    port: number,
    client: Uint32Array,
    server: Uint32Array,
    memory: Uint8Array,
    at: number,
  ): void {
    const query = this.#world.oracle.onReply(
      port,
      client,
      server,
      memory,
      at,
      worker.judgedNs,
      worker.life.name,
    );
    if (query === undefined) return;
    const rcode = memory[at + 3]! & 15;
    this.#world.trace.note('answers', query.number, rcode, 0, worker.life.name);
    if (rcode !== rcodeNoError) return;
    this.#checkPod(worker, query);
    this.#checkLearned(worker, query, memory, at);
  }

  /** The address is still that of an endpoint for which the query was sent (safety rule 18). */
  #checkPod(worker: SimWorker, query: SimQuery): void {
    const { oracle } = this.#world;
    const now = oracle.pods.endpointsSince(query.pod, worker.repliesNs);
    if (!now.some((endpoint) => query.endpoints.includes(endpoint)))
      oracle.fail(4, `query ${query.number} is answered to another pod`);
  }

  /** A framed reply on the connection of its query. */
  onTcp(worker: SimWorker, query: SimQuery, framed: Uint8Array): void {
    const rcode = framed[5]! & 15;
    this.#world.trace.note('answers over TCP', query.number, rcode, 0, worker.life.name);
    if (query.client?.isOfPod(worker.judgedNs) === false)
      this.#world.oracle.fail(4, `query ${query.number} is answered over TCP to another pod`);
    if (rcode === rcodeNoError) this.#checkLearned(worker, query, framed, 2);
  }

  #checkLearned(worker: SimWorker, query: SimQuery, memory: Uint8Array, at: number): void {
    const name = names[query.name] as (typeof names)[number];
    const count = (memory[at + 6]! << 8) | memory[at + 7]!;
    for (const { id } of worker.policy?.compiled.members.selectors ?? []) {
      const facts = selectorFacts.get(id);
      if (
        facts === undefined ||
        !facts.names.has(query.name) ||
        facts.policyId !== 0 ||
        query.server !== 0
      )
        continue;
      for (let i = 0; i < count; i++) {
        const from = at + name.query.length + i * 16 + 12;
        const view = new DataView(memory.buffer, memory.byteOffset + from, 4);
        const host = view.getUint32(0, true);
        if (host === clusterWord) continue;
        const isThere = this.#world.fqdn.expiresOf(host, id) !== 0;
        const isCalm =
          this.#world.fqdn.refused + this.#world.fqdn.evicted === 0 && this.#world.sleeps === 0;
        if (isCalm && !isThere) {
          this.#world.oracle.fail(
            4,
            `${name.text} is answered before the datapath has its address`,
          );
        }
        // Asleep between the answer and its reply the TTL may be over.
        const variant = this.#world.sleeps === 0 ? (worker.policy?.variant ?? -1) : -1;
        const namespaceId = wantedBy(variant, query.pod, id);
        if (isThere && namespaceId !== 0) {
          const ttl = new DataView(memory.buffer, memory.byteOffset + from - 6).getUint32(0);
          this.#world.oracle.learned.guarantees(
            namespaceId,
            host,
            id,
            this.#world.bootSeconds + ttl,
          );
        }
      }
    }
  }
}
