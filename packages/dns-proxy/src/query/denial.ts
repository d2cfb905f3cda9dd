// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The RCODE of a denial. Resolvers that walk a search list go on after NXDOMAIN, but many stop at
 * REFUSED (musl, c-ares, dnspython, dig): with Kubernetes' ndots:5 they would never come to the allowed
 * name itself. So by default a denied name under a search suffix, which is an expansion that no policy
 * means, does not exist, and any other denied name is refused.
 */

import { rcodeNxDomain, rcodeRefused } from '@tandem/core/dns/constants';
import { nameFromText } from '@tandem/core/dns/name';
import type { QueryView } from '@tandem/core/dns/query';
import { NameSuffixes } from '@tandem/core/dns/suffixes';

export const denialModes = ['search', 'refused', 'nxdomain'] as const;
export type DenialMode = (typeof denialModes)[number];

/** Plain values: they go to the worker's thread. */
export interface DenialOptions {
  readonly mode: DenialMode;
  /** Names under which denied ones do not exist, by `search`: text; texts that are no names are left out. */
  readonly suffixes: readonly string[];
}

export class Denial {
  readonly #rcode: number;
  /** Empty unless the mode is `search`. */
  readonly #suffixes: NameSuffixes;

  constructor(options: DenialOptions) {
    const suffixes = options.mode === 'search' ? options.suffixes : [];
    this.#rcode = options.mode === 'nxdomain' ? rcodeNxDomain : rcodeRefused;
    this.#suffixes = new NameSuffixes(suffixes.flatMap((text) => nameFromText(text) ?? []));
  }

  /** For the denied query that the view holds. */
  rcodeFor(query: QueryView): number {
    return this.#suffixes.matches(query) ? rcodeNxDomain : this.#rcode;
  }
}
