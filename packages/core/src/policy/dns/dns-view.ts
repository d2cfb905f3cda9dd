// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Classes as the search for DNS servers sees them. A view remembers its questions, so that a result holds until one
 * of the answers would be another one: most changes of a cluster concern no DNS server.
 */

import { addressKey } from '../../net/ip.ts';
import type { Ownership } from '../classes/address-owners.ts';
import type { AddressClass } from '../classes/class-hosts.ts';
import type { AddressClasses } from '../classes/classes.ts';
import { samePartsAs } from '../model/same-as.ts';

interface Place {
  readonly address: Uint8Array;
  readonly owner: Ownership;
  readonly classId: number;
  readonly flags: number;
  readonly selectors: readonly string[];
}

/** Answers that many views ask for. */
export class DnsAnswers {
  readonly #classes: AddressClasses;
  readonly #versions = new Map<string, { readonly clock: number; readonly version: string }>();
  readonly #members = new Map<
    string,
    { readonly version: string; readonly max: number; readonly found: readonly Uint8Array[] | null }
  >();

  constructor(classes: AddressClasses) {
    this.#classes = classes;
  }

  /** As `AddressClasses.membersVersion`. */
  version(key: string): string {
    const clock = this.#classes.membersClock;
    const known = this.#versions.get(key);
    if (known?.clock === clock) return known.version;
    const version = this.#classes.membersVersion(key);
    this.#versions.set(key, { clock, version });
    return version;
  }

  /** As `AddressClasses.membersOf`. */
  membersOf(key: string, max: number): readonly Uint8Array[] | null {
    const version = this.version(key);
    const known = this.#members.get(key);
    if (known?.version === version && known.max === max) return known.found;
    const found = this.#classes.membersOf(key, max);
    this.#members.set(key, { version, max, found });
    return found;
  }
}

export class DnsView {
  readonly #classes: AddressClasses;
  readonly #answers: DnsAnswers;
  readonly #places = new Map<string, Place>();
  /** Answers about selectors. */
  readonly #members = new Map<string, string>();
  #version: number;
  #owners = -1;

  constructor(classes: AddressClasses, answers: DnsAnswers) {
    this.#classes = classes;
    this.#answers = answers;
    this.#version = classes.watchedVersion;
  }

  /** Addresses that were asked about. */
  get watched(): number {
    return this.#places.size;
  }

  /** Whether every answer is still the same. */
  get isCurrent(): boolean {
    if (this.#owners >= 0 && this.#owners !== this.#classes.ownersVersion) return false;
    for (const [key, version] of this.#members) {
      if (this.#answers.version(key) !== version) return false;
    }
    const version = this.#classes.watchedVersion;
    if (this.#version === version) return true;
    for (const { address, owner, classId, flags, selectors } of this.#places.values()) {
      const now = this.#classes.at(address);
      const isSame =
        now.owner === owner &&
        now.classId === classId &&
        now.flags === flags &&
        samePartsAs(this.selectorsOf(classId), selectors);
      if (!isSame) return false;
    }
    this.#version = version;
    return true;
  }

  at(address: Uint8Array): AddressClass {
    const found = this.#classes.watch(address);
    const { owner, classId, flags } = found;
    const selectors = this.selectorsOf(classId);
    this.#places.set(addressKey(address), { address, owner, classId, flags, selectors });
    return found;
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
    return this.#answers.membersOf(key, max);
  }

  namedOwners(): Iterable<Ownership> {
    this.#owners = this.#classes.ownersVersion;
    return this.#classes.namedOwners();
  }

  #ask(key: string): void {
    if (!this.#members.has(key)) this.#members.set(key, this.#answers.version(key));
  }
}
