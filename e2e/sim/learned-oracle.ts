// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Knows which addresses may be in the map `fqdn`: which names upstream servers have told for whom, and which answers
 * must stay there until their TTL is over.
 */

import { tdLearnOp } from '@tandem/datapath/abi.gen';
import type { FqdnSlot, FqdnWatcher, UsedOf } from './fqdn-map.ts';
import type { SimQuery } from './sim-query.ts';
import { names, serverWords } from './universe.ts';
import { followedBy, selectorFacts } from './universe-policies.ts';
import type { Verdict } from './violation.ts';

export class LearnedOracle implements FqdnWatcher {
  readonly #fail: Verdict['fail'];
  readonly #nowSeconds: () => number;
  /** Seconds that an expired address is kept. */
  readonly #idleSeconds: number;
  /** "name server policy": told by an upstream server to somebody. */
  readonly #told = new Set<number>();
  /** By "address selector": namespaces that were answered it and want it, and until when. */
  readonly #guaranteed = new Map<string, Map<number, number>>();

  constructor(fail: Verdict['fail'], nowSeconds: () => number, idleSeconds: number) {
    this.#fail = fail;
    this.#nowSeconds = nowSeconds;
    this.#idleSeconds = idleSeconds;
  }

  /** The server answers the query that this member forwarded for a pod of this policy. */
  onTold(query: SimQuery, policyId: number): void {
    this.#told.add(query.name * 16 + query.server);
    this.#told.add((query.name * 16 + query.server) * 4_294_967_296 + policyId);
  }

  onAdd(address: number, selector: number, expires: number, _namespaceId: number): void {
    const facts = selectorFacts.get(selector);
    if (facts === undefined) {
      this.#fail(1, `selector ${selector} is of no policy`);
      return;
    }
    for (const name of facts.names) {
      if (!(names[name]?.hosts.includes(address) === true)) continue;
      // Everybody's selectors learn from the cluster's resolver, those of one policy from what it was told.
      if (facts.policyId === 0 ? this.#told.has(name * 16) : this.#toldTo(name, facts.policyId)) {
        if (expires <= this.#nowSeconds() + 700_000) return;
      }
    }
    this.#fail(1, `address ${address} gets selector ${selector}, nobody was told so`);
  }

  /** To pods of the policy, or of one whose place it takes. */
  #toldTo(name: number, policyId: number): boolean {
    const policies = [policyId, ...(followedBy.get(policyId) ?? [])];
    return serverWords.some((_, server) =>
      policies.some((each) => this.#told.has((name * 16 + server) * 4_294_967_296 + each)),
    );
  }

  /** A pod of the namespace was answered the address, its policies name the selector. */
  guarantees(namespaceId: number, address: number, selector: number, until: number): void {
    const key = `${address} ${selector}`;
    const namespaces = this.#guaranteed.get(key) ?? new Map<number, number>();
    this.#guaranteed.set(key, namespaces);
    namespaces.set(namespaceId, Math.max(until, namespaces.get(namespaceId) ?? 0));
  }

  onRemove(address: number, slot: FqdnSlot, op: number, isLast: boolean, usedOf: UsedOf): void {
    const namespaces = this.#guaranteed.get(`${address} ${slot.selector}`) ?? new Map();
    for (const [namespaceId, until] of isLast ? namespaces : []) {
      const { used, share } = usedOf(namespaceId);
      if (until <= this.#nowSeconds()) continue;
      if (used >= share) {
        // With all of its share it makes room for itself: what it learns again is another pair.
        namespaces.delete(namespaceId);
        continue;
      }
      this.#fail(
        8,
        `address ${address} goes ${until - this.#nowSeconds()} s before its TTL is over, and namespace ${namespaceId} has ${used} of the ${share} of its share`,
      );
    }
    if (op === tdLearnOp.EXPIRE) {
      if (slot.expires + this.#idleSeconds <= this.#nowSeconds()) return;
      this.#fail(
        3,
        `address ${address} is emptied ${slot.expires - this.#nowSeconds()} s before its time`,
      );
    } else if (op === tdLearnOp.REMOVE && slot.expires > this.#nowSeconds()) {
      this.#fail(3, `address ${address} is removed before its time`);
    }
  }
}
