// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A pattern as the automata read it: backwards, because names share their ends. The final dot is
 * left out of names and patterns alike, so the root is the empty string. Inside a name labels are
 * never empty, hence "one or more whole labels" is any octets behind a dot.
 */

import { assert } from '../assert.ts';
import { codeDot, codeOfOctet, codeOther } from './alphabet.ts';
import { bareStar, type Pattern } from './pattern.ts';

/** Zero or more characters of one label. */
export const tokenStar = 41;
/** Anything to the start of the name: the "**" of a leading "**.", always the last token. */
export const tokenDeep = 42;

const deepPrefix = '**.';

/** Codes of the alphabet and the two tokens above, from the end of the pattern. Not for a bare star. */
export function reversedTokens(pattern: Pattern): Uint8Array {
  const { text } = pattern;
  assert(text !== bareStar && text.endsWith('.'), 'a pattern is canonical');
  const isDeep = text.startsWith(deepPrefix);
  const body = text.slice(isDeep ? deepPrefix.length : 0, -1);
  const tokens = new Uint8Array(body.length + (isDeep ? 2 : 0));
  let at = 0;
  for (let i = body.length - 1; i >= 0; i--) tokens[at++] = tokenOf(body.charCodeAt(i));
  if (isDeep) {
    tokens[at++] = codeDot;
    tokens[at] = tokenDeep;
  }
  return tokens;
}

function tokenOf(character: number): number {
  if (character === 0x2a) return tokenStar;
  if (character === 0x2e) return codeDot;
  const code = codeOfOctet[character]!;
  assert(code !== codeOther, 'a pattern has ordinary characters');
  return code;
}

/**
 * Whether a star has characters before it in the text. Patterns without such a star, "a.b", "*.b",
 * "*a.b", "**.b", can never make the merged automaton larger than a few states for each character.
 */
export function hasInfixStar(tokens: Uint8Array): boolean {
  const star = tokens.indexOf(tokenStar);
  return star >= 0 && star < tokens.length - 1;
}
