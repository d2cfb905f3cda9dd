// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Whether one name can match two patterns. For checks of policies; bounded by the product of their lengths. */

import { codeDot, codeOther } from './alphabet.ts';
import { bareStar, type Pattern } from './pattern.ts';
import { reversedTokens, tokenDeep, tokenStar } from './pattern-tokens.ts';

/** The contexts of the patterns do not count: a bare star overlaps with every pattern. */
export function patternsOverlap(one: Pattern, other: Pattern): boolean {
  if (one.text === bareStar || other.text === bareStar) return true;
  const a = reversedTokens(one);
  const b = reversedTokens(other);
  const seen = new Set<number>();
  // Positions of both, and whether the character before was a dot: labels are never empty.
  const waiting: (readonly [at: number, bt: number, afterDot: boolean])[] = [[0, 0, true]];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    const [at, bt, afterDot] = next;
    const key = (at * (b.length + 1) + bt) * 2 + (afterDot ? 1 : 0);
    if (seen.has(key)) continue;
    seen.add(key);
    // The root is the only name that ends where a label would begin, and both patterns are it.
    const isEnd = at === a.length && bt === b.length;
    if (isEnd && (!afterDot || a.length + b.length === 0)) return true;
    for (const [from, to] of [
      [at + 1, bt],
      [at, bt + 1],
    ] as const) {
      const token = from > at ? a[at] : b[bt];
      if (token === tokenStar || token === tokenDeep) waiting.push([from, to, afterDot]);
    }
    for (const character of charactersAt(a[at], b[bt])) {
      if (character === codeDot && afterDot) continue;
      const aNext = step(a[at], character, at);
      const bNext = step(b[bt], character, bt);
      if (aNext >= 0 && bNext >= 0) waiting.push([aNext, bNext, character === codeDot]);
    }
  }
  return false;
}

/** One that stands for every ordinary character of a label: a star takes them all alike. */
const anyOfLabel = codeOther - 1;

/** Characters that both may take next: the one that either names, or, if neither does, one character of a label and a dot. */
function charactersAt(one: number | undefined, other: number | undefined): readonly number[] {
  for (const token of [one, other]) {
    if (token !== undefined && token !== tokenStar && token !== tokenDeep) return [token];
  }
  return [anyOfLabel, codeDot];
}

/** The position after `character`; -1: the token does not take it. */
function step(token: number | undefined, character: number, at: number): number {
  if (token === tokenStar) return character === codeDot ? -1 : at;
  if (token === tokenDeep) return at;
  return token === character ? at + 1 : -1;
}
