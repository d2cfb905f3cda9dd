// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Stable ids through compilations. While nothing that has an id came or went, the table of before is the table of now;
 * else a copy of it gets a generation, in which all that is in use is named, whether it is new or not.
 */
import { digestsKeptMax } from '../limits.ts';
import { digest128 } from '../sha256.ts';
import type { IdKind, StableIds } from './stable-ids.ts';

/** Who gives ids names in turn; each says anew what it uses, or keeps what it said. */
export type IdUser = 'classes' | 'policies' | 'endpoints';

/** As `StableIds.assign`. */
export interface IdSource {
  assign(kind: IdKind, contents: Iterable<string>): Map<string, number>;
}

type Used = [kind: IdKind, digests: readonly string[]][];

export class IdSession {
  /** The table that the last compilation ended with. */
  #last: StableIds | null = null;
  #previous: StableIds | null = null;
  /** The table of this compilation; null: it is that of before so far. */
  #ids: StableIds | null = null;
  readonly #used = new Map<IdUser, Used>();
  readonly #digests = new DigestCache();
  #endpoints: Readonly<Record<'endpoint' | 'namespace', ReadonlySet<string>>> | null = null;
  #endpointIds: readonly [Map<string, number>, Map<string, number>] | null = null;

  /** `previous`: the table that this compilation goes on from. */
  begin(previous: StableIds): void {
    if (previous !== this.#last) this.#endpoints = null;
    this.#previous = previous;
    this.#ids = null;
  }

  reset(): void {
    this.#last = null;
    this.#endpoints = null;
    this.#used.clear();
  }

  /** True: what the user was given last holds. */
  keep(user: IdUser): boolean {
    return this.#previous === this.#last && this.#used.has(user);
  }

  /** For new names of all that the user uses. */
  use(user: IdUser): IdSource {
    const used: Used = [];
    this.#used.set(user, used);
    const ids = this.#own();
    return {
      assign: (kind, contents) => {
        const list = [...contents];
        const digests = list.map((content) => this.#digests.of(content));
        used.push([kind, digests]);
        const assigned = ids.assignDigests(kind, digests);
        return new Map(
          list.map((content, i) => [content, assigned.get(digests[i] as string) as number]),
        );
      },
    };
  }

  /** As `use(user).assign`, of contents whose digests are known. */
  assignDigests(user: IdUser, kind: IdKind, digests: readonly string[]): Map<string, number> {
    this.#used.set(user, [[kind, digests]]);
    return this.#own().assignDigests(kind, digests);
  }

  /** Ids of endpoints and of their namespaces. */
  assignEndpoints(
    contents: Readonly<Record<'endpoint' | 'namespace', ReadonlySet<string>>>,
  ): readonly [Map<string, number>, Map<string, number>] {
    const last = this.#endpoints;
    const isSame =
      last !== null &&
      this.keep('endpoints') &&
      areSame(last.endpoint, contents.endpoint) &&
      areSame(last.namespace, contents.namespace);
    if (isSame && this.#endpointIds !== null) return this.#endpointIds;
    const source = this.use('endpoints');
    this.#endpoints = contents;
    this.#endpointIds = [
      source.assign('endpoint', contents.endpoint),
      source.assign('namespace', contents.namespace),
    ];
    return this.#endpointIds;
  }

  /** The table after this compilation. */
  end(): StableIds {
    const ids = this.#ids;
    if (ids !== null) {
      for (const used of this.#used.values()) {
        for (const [kind, digests] of used) ids.assignDigests(kind, digests);
      }
      ids.retire();
    }
    this.#last = ids ?? (this.#previous as StableIds);
    return this.#last;
  }

  #own(): StableIds {
    if (this.#ids === null) {
      this.#ids = (this.#previous as StableIds).clone();
      this.#ids.begin();
    }
    return this.#ids;
  }
}

/** Digests of contents that are asked for again and again. */
class DigestCache {
  #young = new Map<string, string>();
  #old = new Map<string, string>();

  of(content: string): string {
    const young = this.#young.get(content);
    if (young !== undefined) return young;
    const digest = this.#old.get(content) ?? digest128(content);
    if (this.#young.size >= digestsKeptMax) {
      this.#old = this.#young;
      this.#young = new Map();
    }
    this.#young.set(content, digest);
    return digest;
  }
}

function areSame(left: ReadonlySet<string>, right: ReadonlySet<string>): boolean {
  return left.size === right.size && left.isSubsetOf(right);
}
