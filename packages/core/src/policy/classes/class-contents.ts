// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Classes by their contents, as long as some address has them, and the table that says which selectors each one
 * stands for. Ids are stable: they come from digests of the contents.
 */

import { digest128 } from '../../sha256.ts';
import type { ClassTable } from '../model/desired.ts';
import type { IdSession } from '../model/id-session.ts';
import { classNone } from '../model/kernel-numbers.ts';
import { ClassOverflow } from './class-overflow.ts';

/** A set of selectors that some addresses match. */
export class ClassContent {
  readonly keys: readonly string[];
  /** Digest of the keys' text, which may be long; '' for the empty set. */
  readonly digest: string;
  id: number = classNone;
  /** Prefixes that have it. */
  users = 0;
  /** Addresses among them that objects or interfaces name. */
  named = 0;
  /** Another number whenever such an address comes or goes. */
  version = 0;
  /** Its id is in use. */
  hasId = false;
  /** No address had it at the end of a compilation: another object stands for its keys from then on. */
  isGone = false;

  constructor(digest: string, keys: readonly string[]) {
    this.keys = keys;
    this.digest = digest;
  }
}

export class ClassContents {
  readonly #byDigest = new Map<string, ClassContent>();
  /** Keys of all contents together, and their limit. */
  #size = 0;
  readonly #max: number;
  /** Contents that came into use or went out of it since the last table, with what they were then. */
  readonly #moved = new Map<ClassContent, number>();
  #table: ClassTable = { classesOf: new Map(), selectorsOf: new Map() };
  #clock = 0;
  readonly #byKey = new Map<string, Set<ClassContent>>();

  constructor(max: number) {
    this.#max = max;
  }

  get table(): ClassTable {
    return this.#table;
  }

  /** Counts changes of everything that `with`, ids and `version` may depend on. */
  get clock(): number {
    return this.#clock;
  }

  /** Contents in use that hold the key of a selector. */
  with(key: string): Iterable<ClassContent> {
    return this.#byKey.get(key) ?? [];
  }

  /** The content with these keys, which are sorted. @throws ClassOverflow: there are too many keys in all contents */
  of(keys: readonly string[]): ClassContent {
    const digest = keys.length === 0 ? '' : digest128(keys.join('\n'));
    let content = this.#byDigest.get(digest);
    if (content === undefined) {
      this.#size += keys.length;
      if (this.#size > this.#max) throw new ClassOverflow(this.#max, this.#byDigest.values());
      this.#byDigest.set(digest, (content = new ClassContent(digest, keys)));
    }
    return content;
  }

  use(content: ClassContent, isNamed: boolean): void {
    if (isNamed) {
      content.named++;
      content.version = ++this.#clock;
    }
    if (content.users++ > 0) return;
    for (const key of content.keys) {
      const contents = this.#byKey.get(key);
      if (contents === undefined) this.#byKey.set(key, new Set([content]));
      else contents.add(content);
    }
    this.#note(content);
  }

  release(content: ClassContent, isNamed: boolean): void {
    if (isNamed) {
      content.named--;
      content.version = ++this.#clock;
    }
    if (--content.users > 0) return;
    for (const key of content.keys) {
      const contents = this.#byKey.get(key);
      contents?.delete(content);
      if (contents?.size === 0) this.#byKey.delete(key);
    }
    this.#note(content);
  }

  /** Gives ids to all in use; returns those that had another one before. */
  assign(ids: IdSession): ReadonlySet<ClassContent> {
    for (const content of this.#moved.keys()) {
      if (content.users > 0 === content.hasId) continue;
      content.hasId = content.users > 0;
      if (content.hasId) ids.use('class', content.digest);
      else ids.release('class', content.digest);
    }
    ids.settle('class');
    const renamed = new Set<ClassContent>();
    for (const content of ids.isContinued ? [...this.#moved.keys()] : this.#byDigest.values()) {
      if (!content.hasId) continue;
      const id = ids.idOf('class', content.digest);
      if (content.id === id) continue;
      if (!this.#moved.has(content)) this.#moved.set(content, content.id);
      if (content.id !== classNone) renamed.add(content);
      content.id = id;
      this.#clock++;
    }
    return renamed;
  }

  /** At the end of a compilation: a new table where anything moved; who has the former one keeps it as it was. */
  settle(): void {
    const moved = [...this.#moved].filter(
      ([{ users, id }, former]) => users === 0 || former !== id,
    );
    this.#moved.clear();
    for (const [{ digest }] of moved) {
      const content = this.#byDigest.get(digest);
      if (content?.users !== 0) continue;
      content.isGone = true;
      this.#size -= content.keys.length;
      this.#byDigest.delete(digest);
    }
    if (moved.length === 0) return;
    const selectorsOf = new Map(this.#table.selectorsOf);
    const classesOf = new Map(this.#table.classesOf);
    const touched = new Set<string>();
    for (const [{ keys }, former] of moved) {
      if (former !== 0) selectorsOf.delete(former);
      for (const key of keys) touched.add(key);
    }
    for (const [{ users, id, keys }] of moved) if (users > 0) selectorsOf.set(id, keys);
    for (const key of touched) {
      const classes = [...this.with(key)].map(({ id }) => id).sort((left, right) => left - right);
      if (classes.length === 0) classesOf.delete(key);
      else classesOf.set(key, classes);
    }
    this.#table = { classesOf, selectorsOf };
  }

  #note(content: ClassContent): void {
    this.#clock++;
    if (content.digest === '' || this.#moved.has(content)) return;
    const isInTable = this.#table.selectorsOf.get(content.id) === content.keys;
    this.#moved.set(content, isInTable ? content.id : 0);
  }
}
