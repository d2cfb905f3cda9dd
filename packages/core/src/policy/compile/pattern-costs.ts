// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Nodes of the trie that the patterns of a node take in its matcher. Patterns with the same end share the nodes of that end. A full
 * matcher rejects the longest patterns of all namespaces, so objects are left out before it is full.
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
