// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A policy over the classes of the node -> entries of the kernel's `policy` trie.
 *
 * What `judge` does with them: one longest-prefix lookup for the peer's class and, if the endpoint has
 * the WILD flag, one for TD_PEER_ANY; of the two, deny beats L7-DNS beats allow. If both give nothing
 * and the class permits learning, each selector of the address is looked up the same way. So within one
 * peer the most specific entry alone must tell the truth: a wider deny is folded into narrower allows.
 * Between peers nothing is folded.
 */

import { assert } from '../assert.ts';
import type { ClassTable, CompiledPolicy, CompiledRule, PolicyEntry } from './desired.ts';
import {
  Direction,
  Protocol,
  peerAny,
  policyBitsPeer,
  policyBitsPort,
  policyBitsProtocol,
  Verdict,
} from './kernel-numbers.ts';

/** Verdict on some packets, and its rule. */
interface Answer {
  readonly verdict: Verdict;
  readonly ruleId: number;
}

/** Consecutive ports with one answer. */
interface Segment {
  readonly first: number;
  readonly last: number;
  readonly answer: Answer;
}

type EntryShape = Pick<
  PolicyEntry,
  'protocol' | 'port' | 'prefixLength' | 'verdict' | 'ruleId' | 'direction'
>;

const nothing: Answer = { verdict: Verdict.none, ruleId: 0 };
const protocols = [Protocol.tcp, Protocol.udp, Protocol.sctp] as const;
const portMax = 65_535;
const portBits = 16;

/** All entries of the policy for all classes of the table; no two have one key. */
export function expandPolicy(policy: CompiledPolicy, classes: ClassTable): PolicyEntry[] {
  const entries: PolicyEntry[] = [];
  forEachPeer(policy, classes, 'all', (peer, shape) => {
    for (const entry of shape) entries.push({ policyId: policy.id, peer, ...entry });
  });
  return entries;
}

/**
 * Entries that a policy has only because of these classes, none for peers of any kind or for names: given the classes that
 * came or went, it is what a change of classes adds or removes.
 */
export function expandClasses(policy: CompiledPolicy, classes: ClassTable): PolicyEntry[] {
  const entries: PolicyEntry[] = [];
  if (!names(policy, classes)) return entries;
  forEachPeer(policy, classes, 'classes', (peer, shape) => {
    for (const entry of shape) entries.push({ policyId: policy.id, peer, ...entry });
  });
  return entries;
}

/** How many those are. */
export function countClassEntries(policy: CompiledPolicy, classes: ClassTable): number {
  let count = 0;
  if (!names(policy, classes)) return count;
  forEachPeer(policy, classes, 'classes', (_, shape) => {
    count += shape.length;
  });
  return count;
}

/** Whether some class has a peer of the policy. */
function names({ peers }: CompiledPolicy, { classesOf }: ClassTable): boolean {
  const [fewer, more] = peers.size < classesOf.size ? [peers, classesOf] : [classesOf, peers];
  return fewer.keys().some((key) => more.has(key));
}

/** How many entries it takes, by the rule that they are due to; rule 0: several. Makes none of them. */
export function countEntries(policy: CompiledPolicy, classes: ClassTable): Map<number, number> {
  const peers = new Map<readonly EntryShape[], number>();
  forEachPeer(policy, classes, 'all', (_, shape) => peers.set(shape, (peers.get(shape) ?? 0) + 1));
  const counts = new Map<number, number>();
  for (const [shape, count] of peers) {
    for (const { ruleId } of shape) counts.set(ruleId, (counts.get(ruleId) ?? 0) + count);
  }
  return counts;
}

function forEachPeer(
  policy: CompiledPolicy,
  classes: ClassTable,
  which: 'all' | 'classes',
  take: (peer: number, shape: readonly EntryShape[]) => void,
): void {
  for (const direction of [Direction.ingress, Direction.egress] as const) {
    const rules = policy.rules.filter((rule) => rule.direction === direction);
    // Many peers share one list of rules: all selectors of one toFQDNs, say.
    const shapes = new Map<string, readonly EntryShape[]>();
    for (const [peer, indices] of rulesByPeer(rules, classes, which)) {
      const key = indices.join(' ');
      let shape = shapes.get(key);
      if (shape === undefined) {
        shape = expandRules(
          indices.map((index) => rules[index] as CompiledRule),
          direction,
        );
        shapes.set(key, shape);
      }
      take(peer, shape);
    }
  }
}

/** Peer id -> indices of the rules that hold for it, ascending. */
function rulesByPeer(
  rules: readonly CompiledRule[],
  classes: ClassTable,
  which: 'all' | 'classes',
): ReadonlyMap<number, readonly number[]> {
  const byPeer = new Map<number, number[]>();
  for (const [index, rule] of rules.entries()) {
    const peers = new Set<number>(which === 'all' ? rule.fqdnSelectors : []);
    if (rule.peers === 'any') {
      if (which === 'all') peers.add(peerAny);
    } else {
      for (const key of rule.peers) {
        for (const classId of classes.classesOf.get(key) ?? []) peers.add(classId);
      }
    }
    for (const peer of peers) {
      const indices = byPeer.get(peer);
      if (indices === undefined) byPeer.set(peer, [index]);
      else indices.push(index);
    }
  }
  return byPeer;
}

/** The entries for one peer: any protocol first, then what each protocol's ports say beyond that. */
function expandRules(rules: readonly CompiledRule[], direction: Direction): readonly EntryShape[] {
  const shapes: EntryShape[] = [];
  const base = rules
    .filter(({ ports }) => ports === 'any')
    .reduce((answer, rule) => join(answer, rule), nothing);
  push(shapes, base, { direction, protocol: 0, port: 0, prefixLength: policyBitsPeer });
  for (const protocol of protocols) {
    const segments = segmentsOf(rules, protocol, base);
    const emit = (first: number, bits: number, answer: Answer): void =>
      push(shapes, answer, {
        direction,
        protocol,
        port: first,
        prefixLength: policyBitsProtocol + bits,
      });
    emitPrefix({ first: 0, bits: 0 }, segments, base, emit);
  }
  return shapes;
}

function push(
  shapes: EntryShape[],
  { verdict, ruleId }: Answer,
  place: Omit<EntryShape, 'verdict' | 'ruleId'>,
): void {
  assert(place.prefixLength <= policyBitsPort, 'a prefix ends with the port');
  if (verdict !== Verdict.none) shapes.push({ ...place, verdict, ruleId });
}

/** The port space of one protocol cut where an answer begins or ends. */
function segmentsOf(
  rules: readonly CompiledRule[],
  protocol: Protocol,
  base: Answer,
): readonly Segment[] {
  const cuts = new Set([0]);
  const ranges = rules.flatMap((rule) =>
    rule.ports === 'any'
      ? []
      : rule.ports
          .filter((range) => range.protocol === protocol)
          .map(({ first, last }) => ({ first, last, rule })),
  );
  for (const { first, last } of ranges) {
    cuts.add(first);
    if (last < portMax) cuts.add(last + 1);
  }
  const starts = [...cuts].sort((left, right) => left - right);
  return starts.map((first, index) => {
    const last = (starts[index + 1] ?? portMax + 1) - 1;
    const holding = ranges.filter((range) => range.first <= first && last <= range.last);
    return { first, last, answer: holding.reduce((answer, { rule }) => join(answer, rule), base) };
  });
}

/**
 * Emits prefixes so that every port's longest one gives its answer. A prefix states the weakest answer
 * of its ports, when that is stronger than what encloses it, and leaves the stronger ones to its halves.
 */
function emitPrefix(
  prefix: { readonly first: number; readonly bits: number },
  segments: readonly Segment[],
  enclosing: Answer,
  emit: (first: number, bits: number, answer: Answer) => void,
): void {
  const weakest = segments.map(({ answer }) => answer).reduce(meet);
  const isStronger = strength(weakest) > strength(enclosing);
  const stated = isStronger ? weakest : enclosing;
  if (isStronger) emit(prefix.first, prefix.bits, weakest);
  if (segments.every(({ answer }) => strength(answer) === strength(stated))) return;
  const half = 1 << (portBits - prefix.bits - 1);
  const middle = prefix.first + half;
  const bits = prefix.bits + 1;
  const lower = segments.filter(({ first }) => first < middle);
  const upper = segments.filter(({ last }) => last >= middle);
  emitPrefix({ first: prefix.first, bits }, lower, stated, emit);
  emitPrefix({ first: middle, bits }, upper, stated, emit);
}

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

/** Both hold: the stronger wins; rule 0 when two rules say the same. */
function join(left: Answer, right: Answer): Answer {
  const difference = strength(left) - strength(right);
  if (difference !== 0) return difference > 0 ? left : right;
  return mergeRules(left, right);
}

/** Verdict that holds for all ports of both. */
function meet(left: Answer, right: Answer): Answer {
  const difference = strength(left) - strength(right);
  if (difference !== 0) return difference < 0 ? left : right;
  return mergeRules(left, right);
}

function mergeRules(left: Answer, right: Answer): Answer {
  return left.ruleId === right.ruleId ? left : { verdict: left.verdict, ruleId: 0 };
}
