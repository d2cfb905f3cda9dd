// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Guaranteed shares of the map of learned addresses (safety rule 17): the same share for every namespace of the node whose
 * policies name FQDNs, so that all shares together fit the map. Other namespaces may use the unused part of a share, up to
 * the option `quotaNamespace`, and lose it when its namespace needs it.
 */

import type { NamespaceId } from '@tandem/core/ids';
import type { Compiled } from '@tandem/core/policy/model/desired';
import { EndpointFlag } from '@tandem/core/policy/model/kernel-numbers';
import { TD_PLACES_MAX } from '@tandem/datapath/abi.gen';
import type { Datapath } from '@tandem/datapath/datapath';
import { readLearnedSpaces, setShare } from '@tandem/datapath/learned-spaces';

export class LearnedShares {
  /** Namespaces that the kernel had no room for: their learned pairs count as offered. */
  refused = 0;
  readonly #datapath: Pick<Datapath, 'map' | 'program'>;
  readonly #limit: number;
  #applied = '';

  /** `limit`: pairs of one namespace. */
  constructor(datapath: Pick<Datapath, 'map' | 'program'>, limit: number) {
    this.#datapath = datapath;
    this.#limit = limit;
  }

  /** Before anything is learned by what was compiled. Nothing is done when nothing has changed. */
  apply(compiled: Pick<Compiled, 'endpoints' | 'policies'>): void {
    const wanted = namespacesWithFqdns(compiled);
    const key = [...wanted].sort((left, right) => left - right).join(' ');
    if (key === this.#applied) return;
    const isWhole = this.#set(wanted);
    // Namespaces that still have pairs are forgotten when these are gone.
    this.#applied = isWhole ? key : '';
  }

  /** True: nothing is left to be done. */
  #set(wanted: ReadonlySet<NamespaceId>): boolean {
    const share = Math.min(Math.floor(TD_PLACES_MAX / Math.max(1, wanted.size)), this.#limit);
    const spaces = readLearnedSpaces(this.#datapath.map('learned_order')).slice(1);
    const program = this.#datapath.program('share');
    let isWhole = true;
    this.refused = 0;
    // Who gets less comes first: at no time is more guaranteed than there is.
    for (const { namespaceId, used } of spaces) {
      if (wanted.has(namespaceId)) continue;
      setShare(program, namespaceId, 0, 0);
      if (used > 0) isWhole = false;
    }
    const before = new Map(spaces.map((space) => [space.namespaceId, space.share]));
    const order = [...wanted].sort(
      (left, right) => (before.get(right) ?? 0) - (before.get(left) ?? 0),
    );
    for (const namespaceId of order) {
      if (!setShare(program, namespaceId, share, this.#limit)) this.refused += 1;
    }
    return isWhole && this.refused === 0;
  }
}

/** Namespaces of the node's endpoints whose policy names FQDNs. */
function namespacesWithFqdns({
  endpoints,
  policies,
}: Pick<Compiled, 'endpoints' | 'policies'>): Set<NamespaceId> {
  const found = new Set<NamespaceId>();
  for (const { namespaceId, policyId } of endpoints) {
    const flags = policies.get(policyId)?.flags ?? 0;
    if ((flags & EndpointFlag.fqdn) !== 0) found.add(namespaceId);
  }
  return found;
}
