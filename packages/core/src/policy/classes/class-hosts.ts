// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Hosts and ranges of `AddressClasses`, each with its class. */

import { hostPrefix, type Prefix } from '../../net/ip.ts';
import type { ClassEntry } from '../model/class-entries.ts';
import type { Ownership } from './address-owners.ts';
import type { ClassContent } from './class-contents.ts';
import type { Range } from './class-ranges.ts';
import type { Look } from './owner-looks.ts';

/** Facts of one address, or of one prefix. */
export interface AddressClass {
  readonly prefix: Prefix;
  readonly owner: Ownership;
  readonly classId: number;
  /** `ClassFlag` bits, inherited ones included. */
  readonly flags: number;
}

/** One address; a class, so that all fields of the many are in one object. */
export class Host {
  readonly key: string;
  readonly address: Uint8Array;
  /** Owner of the address itself; null: the address belongs to its range, and a CIDR peer names it. */
  own: Ownership | null;
  place: RangeClass;
  look: Look;
  content: ClassContent;
  flags = 0;
  isGone = false;

  constructor(
    key: string,
    address: Uint8Array,
    own: Ownership | null,
    place: RangeClass,
    look: Look,
    content: ClassContent,
  ) {
    this.key = key;
    this.address = address;
    this.own = own;
    this.place = place;
    this.look = look;
    this.content = content;
  }
}

/** A range of the tree as it is now, and what it has there. Trees come and go, hosts stay in their range. */
export interface RangeClass {
  range: Range;
  look: Look;
  content: ClassContent;
}

/** Its address is one that an object or an interface names. */
export const isNamed = ({ own }: Host): boolean => own?.isImplied !== true;

/** One of the many: its prefix is made when it is asked for. */
class HostEntry implements ClassEntry {
  readonly address: Uint8Array;
  readonly classId: number;
  readonly flags: number;

  constructor(address: Uint8Array, classId: number, flags: number) {
    this.address = address;
    this.classId = classId;
    this.flags = flags;
  }

  get prefix(): Prefix {
    return hostPrefix(this.address);
  }
}

/** Null: its range's entry says the same. */
export function entryOfHost({ address, content, flags, place }: Host): ClassEntry | null {
  if (content.id === place.content.id && flags === place.range.flags) return null;
  return new HostEntry(address, content.id, flags);
}

export function classOf({ address, own, place, content, flags }: Host): AddressClass {
  const owner = own ?? place.range.owner;
  return { prefix: hostPrefix(address), owner, classId: content.id, flags };
}
