// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The order of learned pairs as the kernel has it, read back for assertions, and what must hold of it at rest. */

import assert from 'node:assert/strict';
import { addressText } from '@tandem/testing/address';
import type { Fixture } from './fixture.ts';

export interface SpaceState {
  readonly number: number;
  readonly namespaceId: number;
  readonly used: number;
  readonly share: number;
  readonly limit: number;
  readonly replaced: number;
  readonly yielded: number;
  readonly refused: number;
  readonly isOver: boolean;
  /** Places of its pairs, oldest first. */
  readonly places: readonly number[];
}

export interface PairState {
  readonly address: string;
  readonly selector: number;
  readonly space: number;
  readonly state: number;
}

const slotOwned = 0x8000_0000;
const spaceShift = 17;
const placeMask = 0x1_ffff;
const spaceMask = 0xfff;
const pairBytes = 40;
const spaceBytes = 64;

export const spaceOfWord = (word: number): number =>
  (word & slotOwned) === 0 ? 0 : (word >>> spaceShift) & spaceMask;
export const placeOfWord = (word: number): number => word & placeMask;

export class OrderState {
  readonly spaces: readonly SpaceState[];
  readonly over: readonly number[];
  readonly freePairs: number;
  readonly usedPairs: number;
  /** Pages of `fqdn` beside the first of their address. */
  readonly extraPages: number;
  readonly #pairs: DataView;
  readonly #fixture: Fixture;

  constructor(fixture: Fixture) {
    this.#fixture = fixture;
    const { structs } = fixture;
    assert.equal(structs.layout('td_pair').size, pairBytes);
    assert.equal(structs.layout('td_space').size, spaceBytes);
    const value = fixture.map('learned_order').lookup(new Uint8Array(4));
    assert.ok(value !== null);
    this.#pairs = new DataView(fixture.map('learned_pairs').mmap());
    const field = (name: string): number => structs.read('td_order', value, name);
    const at = structs.layout('td_order').fields.get('space');
    assert.ok(at !== undefined);
    this.usedPairs = field('used_pairs');
    this.extraPages = field('extra_pages') | 0;
    const space = (number: number): Uint8Array =>
      value.subarray(at.offset + number * spaceBytes, at.offset + (number + 1) * spaceBytes);
    const of = (number: number, name: string): number =>
      structs.read('td_space', space(number), name);
    this.spaces = Array.from({ length: field('used_spaces') + 1 }, (_, number) => ({
      number,
      namespaceId: of(number, 'namespace_id'),
      used: of(number, 'used'),
      share: of(number, 'share'),
      limit: of(number, 'limit'),
      replaced: of(number, 'replaced'),
      yielded: of(number, 'yielded'),
      refused: of(number, 'refused'),
      isOver: of(number, 'is_over') === 1,
      places: this.#list(of(number, 'head'), of(number, 'tail')),
    }));
    const over: number[] = [];
    for (let at2 = field('over_head'); at2 !== 0; at2 = of(at2, 'over_next')) {
      assert.equal(of(at2, 'over_previous'), over.at(-1) ?? 0, 'over list is whole');
      over.push(at2);
      assert.ok(over.length <= 4096, 'over list ends');
    }
    assert.equal(field('over_tail'), over.at(-1) ?? 0);
    this.over = over;
    let free = 0;
    for (let place = field('free'); place !== 0; place = this.#word(place, 'next')) {
      free += 1;
      assert.equal(this.#word(place, 'state'), 0, 'free pairs are free');
      assert.ok(free <= this.usedPairs, 'list of free pairs ends');
    }
    this.freePairs = free;
  }

  ofNamespace(namespaceId: number): SpaceState | undefined {
    return this.spaces.find((space) => space.namespaceId === namespaceId);
  }

  /** "address selector" of each pair, oldest first. */
  namesOf(namespaceId: number): string[] {
    const places = this.ofNamespace(namespaceId)?.places ?? [];
    return places.map((place) => {
      const { address, selector } = this.pair(place);
      return `${address} ${selector}`;
    });
  }

  pair(place: number): PairState {
    const bytes = new Uint8Array(this.#pairs.buffer, place * pairBytes, pairBytes);
    return {
      address: addressText(this.#fixture.structs.slice('td_pair', bytes, 'addr')),
      selector: this.#word(place, 'selector'),
      space: this.#word(place, 'space'),
      state: this.#word(place, 'state'),
    };
  }

  /** Asserts the invariants that hold while no writer runs. `slots`: every occupied slot's word, by address and selector. */
  assertWhole(slots: ReadonlyMap<string, readonly { selector: number; word: number }[]>): void {
    let linked = 0;
    for (const space of this.spaces) {
      assert.equal(
        space.places.length,
        space.used,
        `space ${space.number}: used is what is listed`,
      );
      const isOver = space.number !== 0 && space.used > space.share;
      assert.equal(space.isOver, isOver, `space ${space.number}: over is over`);
      assert.equal(this.over.includes(space.number), isOver);
      for (const place of space.places) {
        const pair = this.pair(place);
        assert.deepEqual([pair.state, pair.space], [2, space.number]);
        const named = slots
          .get(pair.address)
          ?.filter(
            ({ selector, word }) => selector === pair.selector && placeOfWord(word) === place,
          );
        assert.equal(named?.length, 1, `one slot of ${pair.address} names pair ${place}`);
      }
      linked += space.places.length;
    }
    assert.equal(linked + this.freePairs, this.usedPairs, 'no pair is between two states');
    let occupied = 0;
    for (const list of slots.values()) {
      occupied += list.length;
      for (const { selector, word } of list) {
        const pair = this.pair(placeOfWord(word));
        assert.deepEqual([pair.selector, pair.space, pair.state], [selector, spaceOfWord(word), 2]);
      }
    }
    assert.equal(occupied, linked, 'a pair for each slot');
  }

  #list(head: number, tail: number): number[] {
    const places: number[] = [];
    for (let place = head; place !== 0; place = this.#word(place, 'next')) {
      assert.equal(this.#word(place, 'previous'), places.at(-1) ?? 0, 'list is whole');
      places.push(place);
      assert.ok(places.length <= this.usedPairs, 'list ends');
    }
    assert.equal(tail, places.at(-1) ?? 0, 'tail is last');
    return places;
  }

  #word(place: number, field: string): number {
    const at = this.#fixture.structs.layout('td_pair').fields.get(field);
    assert.ok(at !== undefined);
    return this.#pairs.getUint32(place * pairBytes + at.offset, true);
  }
}

/** Sets what a namespace is guaranteed and what it may have. */
export function setShare(
  fixture: Fixture,
  namespaceId: number,
  share: number,
  limit: number,
): number {
  const args = fixture.structs.bytes('td_share_args', { namespace_id: namespaceId, share, limit });
  return fixture.object.program('share').runSyscall(args);
}
