// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A policy over the classes of the node -> entries of the kernel's `policy` trie.
 *
 * What `judge` does with them: one longest-prefix lookup for the peer's class and, if the endpoint has
 * the WILD flag, one for TD_PEER_ANY; of the two, deny beats L7-DNS beats allow. If both give nothing
 * and the class permits learning, each selector of the address is looked up the same way. So within one
 * peer the most specific entry alone must be right: a wider deny is folded into narrower allows.
 * Between peers nothing is folded, but where the order of rules counts (expand-tiers.ts).
 */

import { assert } from '../../assert.ts';
import {
  type Answer,
  answerOfRule,
  type EntryShape,
  join,
  meet,
  nothing,
  portBits,
  type Segment,
  segmentsOf,
  strength,
} from '../model/answer.ts';
import type { ClassTable, CompiledPolicy, CompiledRule, PolicyEntry } from '../model/desired.ts';
import {
  Direction,
  Protocol,
  peerAny,
  policyBitsPeer,
  policyBitsPort,
  policyBitsProtocol,
  selectorBit,
  Verdict,
} from '../model/kernel-numbers.ts';
import { isOrdered } from '../model/tiers.ts';
import { expandOrdered } from './expand-tiers.ts';

const protocols = [Protocol.tcp, Protocol.udp, Protocol.sctp] as const;

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

/** Each peer of the policy with its entries, which many peers may share; 'classes': those that it has only because of these classes. */
export function forEachPeer(
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
        const own = indices.map((index) => rules[index] as CompiledRule);
        // Rules of a class that are ordered include those for every peer, which no other class's do.
        shape = own.some(isOrdered)
          ? expandOrdered(own, direction, peer !== peerAny)
          : expandRules(own, direction);
        shapes.set(key, shape);
      }
      take(peer, shape);
    }
  }
}

/**
 * Peer id -> indices of the rules that hold for it, ascending. Where the order of rules counts, those of a class include the rules
 * for every peer.
 */
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
  if (rules.some(isOrdered)) addRulesForAll(rules, byPeer);
  return byPeer;
}

function addRulesForAll(rules: readonly CompiledRule[], byPeer: Map<number, number[]>): void {
  const forAll = [...rules.keys()].filter((index) => rules[index]?.peers === 'any');
  const isOrderedForAll = forAll.some((index) => isOrdered(rules[index] as CompiledRule));
  for (const [peer, indices] of byPeer) {
    if (peer === peerAny || peer >= selectorBit) continue;
    const counts =
      isOrderedForAll || indices.some((index) => isOrdered(rules[index] as CompiledRule));
    if (counts)
      byPeer.set(
        peer,
        [...indices, ...forAll].sort((left, right) => left - right),
      );
  }
}

/** The entries for one peer: any protocol first, then what each protocol's ports say beyond that. */
function expandRules(rules: readonly CompiledRule[], direction: Direction): readonly EntryShape[] {
  const shapes: EntryShape[] = [];
  const base = rules
    .filter(({ ports }) => ports === 'any')
    .map(answerOfRule)
    .reduce(join, nothing);
  push(shapes, base, { direction, protocol: 0, port: 0, prefixLength: policyBitsPeer });
  for (const protocol of protocols) {
    const segments = segmentsOf(rules, protocol, (holding) =>
      holding.map(answerOfRule).reduce(join, base),
    );
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
