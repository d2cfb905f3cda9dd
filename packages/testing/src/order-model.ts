// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The order of learned pairs in plain words: what bpf/include/tandem/order.h must do, for comparison and for the
 * simulator. No connection uses an address, and no address has more selectors than places.
 */

export interface ModelPair {
  readonly address: string;
  readonly selector: number;
}

/** Called for each pair that makes room or is removed, before it is. */
export type ModelDrop = (namespaceId: number, pair: ModelPair) => void;

interface Space {
  share: number;
  limit: number;
  /** Oldest first. */
  readonly pairs: ModelPair[];
}

const offers = 0;

export class OrderModel {
  readonly #places: number;
  readonly #defaultLimit: number;
  readonly #onDrop: ModelDrop;
  readonly #spaces = new Map<number, Space>([[offers, { share: 0, limit: Infinity, pairs: [] }]]);
  /** Namespaces that have more than their share, who gives next first. */
  readonly #over: number[] = [];

  constructor(places: number, defaultLimit: number, onDrop: ModelDrop = () => {}) {
    this.#places = places;
    this.#defaultLimit = defaultLimit;
    this.#onDrop = onDrop;
  }

  usedOf(namespaceId: number): number {
    return this.#spaces.get(namespaceId)?.pairs.length ?? 0;
  }

  shareOf(namespaceId: number): number {
    return this.#spaces.get(namespaceId)?.share ?? 0;
  }

  has(namespaceId: number, pair: ModelPair): boolean {
    return this.#spaces.get(namespaceId)?.pairs.some(same(pair)) === true;
  }

  setShare(namespaceId: number, share: number, limit: number): void {
    if (limit === 0 && !this.#spaces.has(namespaceId)) return;
    const space = this.#space(namespaceId);
    Object.assign(space, { share, limit });
    this.#fix(namespaceId);
    if (limit === 0 && space.pairs.length === 0) this.#spaces.delete(namespaceId);
  }

  add(namespaceId: number, pair: ModelPair): 'known' | 'added' | 'refused' {
    const space = this.#space(namespaceId);
    if (this.#touch(space, pair)) return 'known';
    if (!this.#makeRoom(namespaceId, space)) return 'refused';
    space.pairs.push(pair);
    // The place of an offer that becomes a namespace's is free again.
    this.#drop(offers, pair);
    this.#fix(namespaceId);
    return 'added';
  }

  offer(pair: ModelPair): 'known' | 'added' | 'refused' {
    const isKnown = [...this.#spaces.values()].some(({ pairs }) => pairs.some(same(pair)));
    if (isKnown) return 'known';
    const space = this.#space(offers);
    if (!this.#makeRoom(offers, space)) return 'refused';
    space.pairs.push(pair);
    return 'added';
  }

  remove(pair: ModelPair): void {
    for (const namespaceId of [...this.#spaces.keys()]) this.#drop(namespaceId, pair);
  }

  /** Removes a pair of one namespace. */
  removeOf(namespaceId: number, pair: ModelPair): void {
    this.#drop(namespaceId, pair);
  }

  /** Pairs of each namespace that has any, oldest first. */
  lists(): Record<number, string[]> {
    const lists: Record<number, string[]> = {};
    for (const [namespaceId, { pairs }] of this.#spaces) {
      if (pairs.length > 0)
        lists[namespaceId] = pairs.map((pair) => `${pair.address} ${pair.selector}`);
    }
    return lists;
  }

  over(): readonly number[] {
    return this.#over;
  }

  #space(namespaceId: number): Space {
    let space = this.#spaces.get(namespaceId);
    if (space === undefined) {
      space = { share: 0, limit: this.#defaultLimit, pairs: [] };
      this.#spaces.set(namespaceId, space);
    }
    return space;
  }

  #touch({ pairs }: Space, pair: ModelPair): boolean {
    const at = pairs.findIndex(same(pair));
    if (at === -1) return false;
    pairs.push(...pairs.splice(at, 1));
    return true;
  }

  #makeRoom(namespaceId: number, space: Space): boolean {
    const used = [...this.#spaces.values()].reduce((sum, { pairs }) => sum + pairs.length, 0);
    const isBelow = space.pairs.length < space.limit;
    if (isBelow && used < this.#places) return true;
    return this.#dropOldest(this.#giver(namespaceId, space, isBelow));
  }

  #giver(namespaceId: number, space: Space, isBelow: boolean): number {
    if (namespaceId === offers || !isBelow) return namespaceId;
    if ((this.#spaces.get(offers)?.pairs.length ?? 0) > 0) return offers;
    const next = this.#over[0];
    if (space.pairs.length >= space.share || next === undefined) return namespaceId;
    this.#over.push(...this.#over.splice(0, 1));
    return next;
  }

  #dropOldest(namespaceId: number): boolean {
    const { pairs } = this.#space(namespaceId);
    const [oldest] = pairs;
    if (oldest === undefined) return false;
    this.#onDrop(namespaceId, oldest);
    pairs.shift();
    this.#fix(namespaceId);
    return true;
  }

  #drop(namespaceId: number, pair: ModelPair): void {
    const { pairs } = this.#space(namespaceId);
    const at = pairs.findIndex(same(pair));
    if (at !== -1) pairs.splice(at, 1);
    this.#fix(namespaceId);
  }

  #fix(namespaceId: number): void {
    if (namespaceId === offers) return;
    const { pairs, share } = this.#space(namespaceId);
    const at = this.#over.indexOf(namespaceId);
    if (pairs.length > share && at === -1) this.#over.push(namespaceId);
    if (pairs.length <= share && at !== -1) this.#over.splice(at, 1);
  }
}

const same =
  (a: ModelPair) =>
  (b: ModelPair): boolean =>
    a.address === b.address && a.selector === b.selector;
