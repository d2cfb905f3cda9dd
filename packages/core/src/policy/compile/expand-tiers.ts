// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The entries of one peer for which the order of rules counts (docs/adr/0021-cluster-network-policy.md). A rule before another one
 * may say less than that one, so an entry may be weaker than the one around it, and "nothing" is said too: the longest prefix alone
 * is true. An entry of a class includes what rules for every peer say: `isDecided` keeps the kernel from asking for these.
 */

import {
  type Answer,
  answerOfRule,
  type EntryShape,
  join,
  mergeRules,
  nothing,
  portBits,
  type Segment,
  segmentsOf,
} from '../model/answer.ts';
import type { CompiledRule } from '../model/desired.ts';
import {
  type Direction,
  Protocol,
  policyBitsPeer,
  policyBitsProtocol,
  Verdict,
} from '../model/kernel-numbers.ts';
import { deciding } from '../model/tiers.ts';

const protocols = [Protocol.tcp, Protocol.udp, Protocol.sctp] as const;

interface Prefix {
  readonly first: number;
  readonly bits: number;
}

/**
 * `rules`: all that hold for the peer, those for every peer included, in order of evaluation. `isClass` false: the peer is
 * "every peer", for which nothing else is asked.
 */
export function expandOrdered(
  rules: readonly CompiledRule[],
  direction: Direction,
  isClass: boolean,
): readonly EntryShape[] {
  const shapes: EntryShape[] = [];
  const push = (protocol: number, port: number, prefixLength: number, answer: Answer): void => {
    // The kernel asks for nothing else after a deny.
    const isDecided = isClass && answer.verdict !== Verdict.deny;
    const place = { direction, protocol, port, prefixLength };
    shapes.push({ ...place, ...answer, ...(isDecided ? { isDecided } : {}) });
  };
  const base = decide(rules.filter(({ ports }) => ports === 'any'));
  if (isClass || base.verdict !== Verdict.none) push(0, 0, policyBitsPeer, base);
  for (const protocol of protocols) {
    const segments = segmentsOf(rules, protocol, (withPorts) => {
      const holding = new Set(withPorts);
      return decide(rules.filter((rule) => rule.ports === 'any' || holding.has(rule)));
    });
    const emit = ({ first, bits }: Prefix, answer: Answer): void =>
      push(protocol, first, policyBitsProtocol + bits, answer);
    const widest = widestAnswer(segments);
    const all = { first: 0, bits: 0 };
    const isStated = widest.verdict !== base.verdict;
    if (isStated) emit(all, widest);
    emitBelow(all, segments, isStated ? widest : base, emit);
  }
  return shapes;
}

/** Answer of the rules that hold, in order. */
function decide(holding: readonly CompiledRule[]): Answer {
  return deciding(holding).map(answerOfRule).reduce(join, nothing);
}

/** The verdict of most ports. */
function widestAnswer(segments: readonly Segment[]): Answer {
  const found = new Map<Verdict, { answer: Answer; count: number }>();
  for (const { first, last, answer } of segments) {
    const known = found.get(answer.verdict);
    const count = (known?.count ?? 0) + last - first + 1;
    found.set(answer.verdict, {
      answer: known === undefined ? answer : mergeRules(known.answer, answer),
      count,
    });
  }
  return [...found.values()].reduce((left, right) => (right.count > left.count ? right : left))
    .answer;
}

/** Emits the largest prefixes with one verdict each, where it is another one than around them. */
function emitBelow(
  prefix: Prefix,
  segments: readonly Segment[],
  enclosing: Answer,
  emit: (prefix: Prefix, answer: Answer) => void,
): void {
  if (segments.every(({ answer }) => answer.verdict === enclosing.verdict)) return;
  const [{ answer: common }] = segments as readonly [Segment];
  if (segments.every(({ answer }) => answer.verdict === common.verdict)) {
    emit(prefix, segments.map(({ answer }) => answer).reduce(mergeRules));
    return;
  }
  const bits = prefix.bits + 1;
  const middle = prefix.first + (1 << (portBits - bits));
  const below = segments.filter(({ first }) => first < middle);
  const above = segments.filter(({ last }) => last >= middle);
  emitBelow({ first: prefix.first, bits }, below, enclosing, emit);
  emitBelow({ first: middle, bits }, above, enclosing, emit);
}
