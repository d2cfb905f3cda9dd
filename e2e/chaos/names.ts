// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Names that the load asks for, and their right answers. The number in the first label decides both. */

import type { Random } from './random.ts';

export type Kind = 'known' | 'fresh' | 'denied';

export interface Question {
  readonly name: string;
  readonly kind: Kind;
  /** The address that the upstream gives; it must not be given for a denied name. */
  readonly address: string;
}

export const allowedSuffix = '.allowed.test';
export const deniedSuffix = '.denied.test';
/** Names 1..knownNames are asked again and again; later numbers once. */
const knownNames = 100;
/** Parts of 100 questions. */
const shares = { known: 40, denied: 10 } as const;
/** The upstream has so many addresses, 198.18.0.0/15; a number beyond comes round again. */
export const addressesMax = 131_072;

/** As `upstream.c` makes it from the number in the name. */
export function addressOf(number: number): string {
  const n = number % addressesMax;
  return `198.${18 + (n >> 16)}.${(n >> 8) & 255}.${n & 255}`;
}

/** First octet of the addresses that fill the map of learned addresses; no name has such an address. */
export const fillerFirstByte = 240;

export const isFiller = (address: string): boolean => address.startsWith(`${fillerFirstByte}.`);

const question = (kind: Kind, number: number): Question => ({
  name: kind === 'denied' ? `d-${number}${deniedSuffix}` : `n-${number}${allowedSuffix}`,
  kind,
  address: addressOf(number),
});

/** Hands out questions; a fresh number never comes twice in the life of a `Names`. */
export class Names {
  #next = knownNames + 1;
  readonly #random: Random;

  constructor(random: Random) {
    this.#random = random;
  }

  /** Every known name once, in order. */
  known(): Question[] {
    return Array.from({ length: knownNames }, (_, i) => question('known', i + 1));
  }

  /** One that was never asked for. */
  fresh(): Question {
    return question('fresh', this.#next++);
  }

  take(count: number): Question[] {
    return Array.from({ length: count }, () => {
      const lot = this.#random.between(0, 99);
      if (lot < shares.known) return question('known', this.#random.between(1, knownNames));
      return question(lot < shares.known + shares.denied ? 'denied' : 'fresh', this.#next++);
    });
  }

  /** Whether an address can have been learned by what was asked so far. */
  mayBeLearned(address: string): boolean {
    const [a, b, c, d] = address.split('.').map(Number) as [number, number, number, number];
    if (a !== 198 || (b !== 18 && b !== 19)) return false;
    // The first address is that of the number after which they come round again.
    const number = ((b - 18) << 16) | (c << 8) | d || addressesMax;
    return number < this.#next;
  }
}
