// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Classes as the search for DNS servers sees them. It remembers what it was asked, so that what was found holds until one
 * of the answers would be another one: most changes of a cluster concern no DNS server.
 */
import type { Ownership } from './address-owners.ts';
import type { AddressClass, AddressClasses } from './classes.ts';

export class DnsView {
  readonly #classes: AddressClasses;
  /** Answers about selectors. */
  readonly #members = new Map<string, string>();
  #version: number;
  #owners = -1;

  constructor(classes: AddressClasses) {
    this.#classes = classes;
    classes.forgetWatched();
    this.#version = classes.watchedVersion;
  }

  /** Whether every answer is still the same. */
  get isCurrent(): boolean {
    if (this.#version !== this.#classes.watchedVersion) return false;
    if (this.#owners >= 0 && this.#owners !== this.#classes.ownersVersion) return false;
    for (const [key, version] of this.#members) {
      if (this.#classes.membersVersion(key) !== version) return false;
    }
    return true;
  }

  at(address: Uint8Array): AddressClass {
    return this.#classes.watch(address);
  }

  /** Keys of the selectors that a class stands for. */
  selectorsOf(classId: number): readonly string[] {
    return this.#classes.table.selectorsOf.get(classId) ?? [];
  }

  /** Whether the selector matches anybody. */
  isKnown(key: string): boolean {
    this.#ask(key);
    return (this.#classes.table.classesOf.get(key)?.length ?? 0) > 0;
  }

  /** Addresses that the selector matches, of those that an object or an interface names; null: more than `max`. */
  membersOf(key: string, max: number): readonly Uint8Array[] | null {
    this.#ask(key);
    return this.#classes.membersOf(key, max);
  }

  namedOwners(): Iterable<Ownership> {
    this.#owners = this.#classes.ownersVersion;
    return this.#classes.namedOwners();
  }

  #ask(key: string): void {
    if (!this.#members.has(key)) this.#members.set(key, this.#classes.membersVersion(key));
  }
}
