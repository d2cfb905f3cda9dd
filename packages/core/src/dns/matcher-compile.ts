// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * From patterns to a `Matcher`. It takes seconds for 10,000 patterns: run it off the thread that serves
 * DNS. Patterns that make the automaton explode are found by trying: when a construction runs over its
 * budget, those that its states are made of move to the bit-parallel simulation, and it is tried again.
 */

import {
  type MatcherLimits,
  matcherAttemptsMax,
  matcherLimits,
  matcherPatternsMax,
} from '../limits.ts';
import { buildDfa, type Dfa } from './dfa-build.ts';
import { packDfa } from './dfa-pack.ts';
import { buildGlobTables, type GlobPattern } from './glob-nfa.ts';
import { Matcher } from './matcher.ts';
import { bareStar, type Pattern } from './pattern.ts';
import { hasInfixStar, reversedTokens } from './pattern-tokens.ts';
import { PatternTrie } from './pattern-trie.ts';

export interface RejectedPattern {
  /** Index in the patterns that were given. */
  readonly index: number;
  readonly reason: 'too-many-patterns' | 'too-complex' | 'not-canonical';
  /** One sentence for the author of the policy. */
  readonly message: string;
}

export interface CompiledMatcher {
  readonly matcher: Matcher;
  /** Patterns that match nothing, because a limit has no room for them. Report them, never ignore. */
  readonly rejected: readonly RejectedPattern[];
  /** Patterns that are simulated instead of merged: exact, but each name pays for them. */
  readonly simulated: number;
  readonly states: number;
}

interface Candidate extends GlobPattern {
  readonly isInfix: boolean;
}

/**
 * Compiles `patterns`; a member of an accept set is an index in them. Null is one whose text is not
 * canonical: like each that is rejected, it matches nothing and keeps its index. `seed`, 32 bits that no author of a pattern
 * knows, keys the hash tables that are used; the result does not depend on it.
 */
export function compileMatcher(
  patterns: readonly (Pattern | null)[],
  seed: number,
  limits: MatcherLimits = matcherLimits,
): CompiledMatcher {
  const rejected: RejectedPattern[] = [];
  const candidates: Candidate[] = [];
  /** Bare stars: those that match any name, and those that match names of ordinary characters. */
  const everything: number[] = [];
  const plain: number[] = [];
  for (const [index, pattern] of patterns.entries()) {
    if (index >= matcherPatternsMax) rejected.push(tooMany(index));
    else if (pattern === null) rejected.push(notCanonical(index));
    else if (pattern.text === bareStar) {
      plain.push(index);
      if (pattern.context === 'rules.dns') everything.push(index);
    } else {
      const tokens = reversedTokens(pattern);
      candidates.push({ tokens, pattern: index, isInfix: hasInfixStar(tokens) });
    }
  }
  const { dfa, left } = mergeWithinBudget(candidates, plain, patterns.length, limits, seed);
  const globs = buildGlobTables(left.toSorted(byLength), limits.simulationWordsMax);
  for (const index of globs.rejected) rejected.push(tooComplex(index, limits));
  rejected.sort((a, b) => a.index - b.index);
  const plainSet = internSet(dfa, plain);
  const otherSet = internSet(dfa, everything);
  const { table, root } = packDfa(dfa);
  const matcher = new Matcher({
    patternCount: Math.min(patterns.length, matcherPatternsMax),
    table,
    root,
    starts: dfa.accepts.starts.slice(0, dfa.accepts.count + 1),
    members: dfa.accepts.members.slice(0, dfa.accepts.memberCount),
    plainSet,
    otherSet,
    globs: globs.tables,
  });
  const simulated = globs.tables.patterns.length;
  return { matcher, rejected, simulated, states: dfa.stateCount };
}

/** The shortest first: no author of long patterns takes the room of others' ordinary ones. */
function byLength(left: Candidate, right: Candidate): number {
  return left.tokens.length - right.tokens.length;
}

/** The automaton of as many candidates as the budgets allow, and those that are left. */
function mergeWithinBudget(
  candidates: readonly Candidate[],
  always: readonly number[],
  patternCount: number,
  limits: MatcherLimits,
  seed: number,
): { readonly dfa: Dfa; readonly left: readonly Candidate[] } {
  let merged = candidates.toSorted(byLength);
  const left: Candidate[] = [];
  for (let attempt = 1; ; attempt++) {
    const trie = new PatternTrie(patternCount, limits.trieNodesMax);
    // A pattern that finds no room in the trie leaves room for shorter ones.
    const added = merged.filter((candidate) => {
      const isAdded = trie.add(candidate.tokens, candidate.pattern);
      if (!isAdded) left.push(candidate);
      return isAdded;
    });
    const result = buildDfa(trie, always, limits, seed);
    if (result.ok) return { dfa: result.dfa, left };
    const evicted = choose(added, trie, result.blame, attempt >= matcherAttemptsMax);
    left.push(...evicted);
    merged = added.filter((candidate) => !evicted.has(candidate));
  }
}

/**
 * The candidates to take out of an automaton that was too large: those with stars between characters
 * that appear in most states; on the last attempt all such. Never none, so that trying ends.
 */
function choose(
  candidates: readonly Candidate[],
  trie: PatternTrie,
  blame: Int32Array,
  isLast: boolean,
): ReadonlySet<Candidate> {
  const infix = candidates.filter((candidate) => candidate.isInfix);
  if (infix.length === 0) return new Set(candidates.slice(candidates.length >>> 1));
  if (isLast) return new Set(infix);
  const weights = infix.map((candidate) => blameOf(candidate, trie, blame));
  const heaviest = weights.reduce((a, b) => Math.max(a, b), 0);
  return new Set(infix.filter((_, index) => weights[index]! * 4 >= heaviest));
}

/** States that hold a node of the pattern at or behind its first star. */
function blameOf(candidate: Candidate, trie: PatternTrie, blame: Int32Array): number {
  let sum = 0;
  let isBehindStar = false;
  trie.walk(candidate.tokens, (node) => {
    isBehindStar ||= trie.stays[node] !== 0;
    if (isBehindStar) sum += blame[node]!;
  });
  return sum;
}

function internSet(dfa: Dfa, members: readonly number[]): number {
  return dfa.accepts.intern(Int32Array.from(members), members.length);
}

function tooMany(index: number): RejectedPattern {
  const message = `the node has more than ${matcherPatternsMax} name patterns: use wildcards`;
  return { index, reason: 'too-many-patterns', message };
}

function notCanonical(index: number): RejectedPattern {
  const message = 'the pattern is not in canonical form: the writer of the snapshot has a bug';
  return { index, reason: 'not-canonical', message };
}

function tooComplex(index: number, limits: MatcherLimits): RejectedPattern {
  const message =
    `the pattern needs more states than the budget has left, and the ${limits.simulationWordsMax} words ` +
    'for such patterns are taken: use fewer stars between characters';
  return { index, reason: 'too-complex', message };
}
