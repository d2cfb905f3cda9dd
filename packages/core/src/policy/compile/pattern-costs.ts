// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Places that patterns take in the matcher of a node: nodes of its trie, where patterns with one end share those of the end. A
 * matcher without room leaves the longest patterns out, whose they ever are, so objects are left out before it comes to that.
 */

import { bareStar, type Pattern } from '../../dns/pattern.ts';
import { reversedTokens } from '../../dns/pattern-tokens.ts';
import { PatternTrie } from '../../dns/pattern-trie.ts';
import { patternNodesMax, patternNodesMin } from '../../limits.ts';

/** At most so many: as if they shared nothing. */
export function patternNodesMost(patterns: readonly Pattern[]): number {
  return patterns.reduce((sum, { text }) => sum + Math.max(text.length, patternNodesMin), 0);
}

/** How many they take. What is far over the limit is not counted to the end: patterns count with their lengths then. */
export function patternNodes(patterns: readonly Pattern[]): number {
  const trie = new PatternTrie(patterns.length, patternNodesMax * 2);
  let left = 0;
  for (const [index, pattern] of patterns.entries()) {
    if (pattern.text === bareStar) continue;
    const tokens = reversedTokens(pattern);
    if (!trie.add(tokens, index)) left += tokens.length;
  }
  return Math.max(trie.nodeCount + left, patterns.length * patternNodesMin);
}
