// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Verdicts of rules on the ports of one peer, and which of two holds. */

import type { CompiledRule, PolicyEntry } from './desired.ts';
import { type Protocol, Verdict } from './kernel-numbers.ts';

/** Verdict on some packets, and its rule. */
export interface Answer {
  readonly verdict: Verdict;
  /** 0: none, or several that agree. */
  readonly ruleId: number;
}

/** Consecutive ports with one answer. */
export interface Segment {
  readonly first: number;
  readonly last: number;
  readonly answer: Answer;
}

/** An entry without its policy and peer. */
export type EntryShape = Omit<PolicyEntry, 'policyId' | 'peer'>;

export const nothing: Answer = { verdict: Verdict.none, ruleId: 0 };
export const portMax = 65_535;
export const portBits = 16;

/** Deny beats L7-DNS beats allow. */
export function strength({ verdict }: { readonly verdict: Verdict }): number {
  switch (verdict) {
    case Verdict.none:
      return 0;
    case Verdict.allow:
      return 1;
    case Verdict.l7Dns:
      return 2;
    case Verdict.deny:
      return 3;
  }
}

/** The rule's own answer. */
export function answerOfRule({ verdict, ruleId }: CompiledRule): Answer {
  return verdict === 'pass' ? nothing : { verdict, ruleId };
}

/** Both hold: the stronger wins; rule 0 when two rules say the same. */
export function join(left: Answer, right: Answer): Answer {
  const difference = strength(left) - strength(right);
  if (difference !== 0) return difference > 0 ? left : right;
  return mergeRules(left, right);
}

/** Verdict that holds for all ports of both. */
export function meet(left: Answer, right: Answer): Answer {
  const difference = strength(left) - strength(right);
  if (difference !== 0) return difference < 0 ? left : right;
  return mergeRules(left, right);
}

/** Answer of two with one verdict. */
export function mergeRules(left: Answer, right: Answer): Answer {
  return left.ruleId === right.ruleId ? left : { verdict: left.verdict, ruleId: 0 };
}

/** The port space of one protocol cut where a rule begins or ends. `answerOf`: what the rules with ports that hold there say. */
export function segmentsOf(
  rules: readonly CompiledRule[],
  protocol: Protocol,
  answerOf: (holding: readonly CompiledRule[]) => Answer,
): readonly Segment[] {
  const ranges = rules.flatMap((rule) =>
    rule.ports === 'any'
      ? []
      : rule.ports
          .filter((range) => range.protocol === protocol)
          .map(({ first, last }) => ({ first, last, rule })),
  );
  const cuts = new Set([0]);
  for (const { first, last } of ranges) {
    cuts.add(first);
    if (last < portMax) cuts.add(last + 1);
  }
  const starts = [...cuts].sort((left, right) => left - right);
  // In one pass: a rule may have thousands of ports.
  const begins = Map.groupBy(ranges, ({ first }) => first);
  const ends = Map.groupBy(ranges, ({ last }) => last + 1);
  const holding = new Map<CompiledRule, number>();
  const count = (rule: CompiledRule, difference: 1 | -1): void => {
    const sum = (holding.get(rule) ?? 0) + difference;
    if (sum === 0) holding.delete(rule);
    else holding.set(rule, sum);
  };
  return starts.map((first, index) => {
    const last = (starts[index + 1] ?? portMax + 1) - 1;
    for (const { rule } of ends.get(first) ?? []) count(rule, -1);
    for (const { rule } of begins.get(first) ?? []) count(rule, 1);
    return { first, last, answer: answerOf([...holding.keys()]) };
  });
}
