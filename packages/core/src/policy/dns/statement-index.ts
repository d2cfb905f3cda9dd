// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The statements of a policy by the peers that they name: most statements concern few of the servers, and there may be many of both. */

import type { Statement } from '../model/policy-set.ts';

/**
 * Whom a question is about: a class by its selectors, an address that has more of them than its class, or
 * 'other', whom only rules for every peer cover. Equal ids have equal selectors.
 */
export type Who =
  | { readonly id: number | string; readonly selectors: ReadonlySet<string> }
  | 'other';

export class StatementIndex {
  readonly #statements: readonly Statement[];
  /** Places of those for every peer, and of those that name a peer, by its key; ascending. */
  readonly #ofAll: number[] = [];
  readonly #ofPeer = new Map<string, number[]>();

  constructor(statements: readonly Statement[]) {
    this.#statements = statements;
    for (const [place, { peers, fqdns }] of statements.entries()) {
      if (peers === 'any') {
        if (fqdns.length === 0) this.#ofAll.push(place);
        continue;
      }
      for (const key of peers) {
        const places = this.#ofPeer.get(key);
        if (places === undefined) this.#ofPeer.set(key, [place]);
        else places.push(place);
      }
    }
  }

  /** Statements whose peers select the server, in their order. */
  covering(who: Who): readonly Statement[] {
    const places = new Set(this.#ofAll);
    for (const key of who === 'other' ? [] : who.selectors) {
      for (const place of this.#ofPeer.get(key) ?? []) places.add(place);
    }
    return [...places]
      .sort((left, right) => left - right)
      .map((place) => this.#statements[place] as Statement);
  }
}
