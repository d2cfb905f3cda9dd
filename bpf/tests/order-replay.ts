// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Replays in plain words the steps that the order of learned pairs made, as the test object wrote them down under the lock: each place
 * that was taken and each victim must be the one that the rules of order.h choose, whichever process took it, and the lists at the end those in
 * the kernel. order.fuzz.test.ts compares requests with their results; this compares what several processes made together.
 */

import type { Fixture } from './fixture.ts';
import { OrderState, type SpaceState } from './order-state.ts';

/** enum order_step. */
const stepNames = ['take', 'evict', 'refuse', 'spare', 'link', 'free', 'touch', 'remove'] as const;
type StepName = (typeof stepNames)[number];

interface Step {
  readonly name: StepName;
  readonly space: number;
  readonly place: number;
  /** Space of the victim. */
  readonly other: number;
}

/** TD_STEPS_MAX */
const stepsMax = 262_144;
const placeBits = 17;
const headBytes = 8;
const offers = 0;

/** The steps since the last time, in their order. Nobody writes meanwhile. @throws RangeError: there were more than are kept */
export function takeSteps(fixture: Fixture): readonly Step[] {
  const words = new Uint32Array(fixture.map('order_steps').mmap());
  const count = words[0] as number;
  if (count > stepsMax) throw new RangeError(`${count} steps, of which ${stepsMax} are kept`);
  words[0] = 0;
  return Array.from({ length: count }, (_, i) => {
    const at = headBytes / 4 + 2 * i;
    const what = words[at] as number;
    const where = words[at + 1] as number;
    return {
      name: stepNames[what & 0xff] as StepName,
      other: what >>> 8,
      space: where >>> placeBits,
      place: where & ((1 << placeBits) - 1),
    };
  });
}

interface Space {
  readonly share: number;
  readonly limit: number;
  /** With pairs that are in no list yet. */
  used: number;
  /** Places of its pairs, oldest first: a set keeps the order in which its members were added. */
  readonly list: Set<number>;
}

export class OrderReplay {
  readonly #places: number;
  readonly #spaces: Space[];
  /** Spaces over their share, who gives next first. */
  readonly #over = new Set<number>();
  /** Places that are free, the next one last. */
  readonly #free: number[] = [];
  #usedPlaces = 0;

  /** Begins with an order without pairs: shares and limits are those of `spaces`. `places`: pairs that the order has room for. */
  constructor(spaces: readonly SpaceState[], places: number) {
    this.#places = places;
    this.#spaces = spaces.map(({ share, limit }) => ({ share, limit, used: 0, list: new Set() }));
  }

  /** Makes the step. Gives in words what it should have been; null: it was that. */
  run(step: Step): string | null {
    const { name, space: number, place, other } = step;
    const space = this.#spaces[number] as Space;
    switch (name) {
      case 'take':
      case 'evict':
      case 'refuse':
        return this.#take(step);
      case 'spare':
        // The victim stays as the youngest of its list, and no pair has its place.
        this.#add(number, -1);
        (this.#spaces[other] as Space).list.add(place);
        this.#add(other, 1);
        return null;
      case 'link':
        space.list.add(place);
        return null;
      case 'free':
        this.#free.push(place);
        this.#add(number, -1);
        return null;
      case 'touch':
        if (!space.list.delete(place)) return 'nothing: the pair is in no list';
        space.list.add(place);
        return null;
      case 'remove':
        if (!space.list.delete(place)) return 'nothing: the pair is in no list';
        this.#free.push(place);
        this.#add(number, -1);
        return null;
    }
  }

  /** Places of the pairs of each space, and the spaces over their share. */
  state(): { readonly lists: readonly (readonly number[])[]; readonly over: readonly number[] } {
    return { lists: this.#spaces.map(({ list }) => [...list]), over: [...this.#over] };
  }

  #take({ name, space: number, place, other }: Step): string | null {
    const space = this.#spaces[number] as Space;
    if (number === offers || space.used < space.limit) {
      const free = this.#free.pop() ?? (this.#usedPlaces < this.#places ? ++this.#usedPlaces : 0);
      if (free !== 0) {
        this.#add(number, 1);
        return name === 'take' && place === free ? null : `the free place ${free}`;
      }
    }
    const giver = this.#giver(number);
    const { list } = this.#spaces[giver] as Space;
    const [oldest] = list;
    if (oldest === undefined) return name === 'refuse' && other === giver ? null : 'a refusal';
    list.delete(oldest);
    this.#add(giver, -1);
    this.#add(number, 1);
    const isRight = name === 'evict' && place === oldest && other === giver;
    return isRight ? null : `the place ${oldest} of the oldest pair of space ${giver}`;
  }

  #giver(number: number): number {
    const space = this.#spaces[number] as Space;
    if (number === offers || space.used >= space.limit) return number;
    if ((this.#spaces[offers] as Space).list.size > 0) return offers;
    const [next] = this.#over;
    if (space.used >= space.share || next === undefined) return number;
    this.#over.delete(next);
    this.#over.add(next);
    return next;
  }

  #add(number: number, by: number): void {
    const space = this.#spaces[number] as Space;
    space.used += by;
    if (number === offers) return;
    if (space.used <= space.share) this.#over.delete(number);
    else if (!this.#over.has(number)) this.#over.add(number);
  }
}

/** As `OrderReplay.state`, of the kernel. */
export function keptState(fixture: Fixture): ReturnType<OrderReplay['state']> {
  const { spaces, over } = new OrderState(fixture);
  return { lists: spaces.map(({ places }) => places), over };
}
