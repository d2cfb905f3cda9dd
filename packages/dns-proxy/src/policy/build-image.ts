// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A policy snapshot turned into the arrays that the query path reads. */

import { randomBytes } from 'node:crypto';
import type { Matcher } from '@tandem/core/dns/matcher';
import {
  type CompiledMatcher,
  compileMatcher,
  type RejectedPattern,
} from '@tandem/core/dns/matcher-compile';
import { patternFromCanonical } from '@tandem/core/dns/pattern';
import { PatternContext, type PolicySnapshot } from '@tandem/proto/gen/messages';
import { decodeCompiled, encodeCompiled } from './compiled-matcher.ts';
import { compareRecord, compareWords } from './tables.ts';
import { backendRecordWords, serverRecordWords, type TablesImage } from './tables-image.ts';

export interface BuiltImage {
  readonly image: TablesImage;
  /** Whether the snapshot brought its matcher. */
  readonly isPrecompiled: boolean;
  /** Patterns compiled here for which no matcher has room: they match nothing. */
  readonly rejected: readonly RejectedPattern[];
}

/**
 * Lays the snapshot's tables out; compiles its patterns, a second for 10,000, if it has no matcher. A
 * pattern that cannot be read or has no room matches nothing, and the rest is in force.
 */
export function buildImage(snapshot: PolicySnapshot): BuiltImage {
  const { patterns } = snapshot;
  const present = decodeCompiled(patterns, snapshot.compiledMatcher);
  if (present !== null) {
    const image = layOut(snapshot, present, patterns.length);
    return { image, isPrecompiled: true, rejected: [] };
  }
  const { matcher, rejected } = compilePatterns(patterns);
  return { image: layOut(snapshot, matcher, patterns.length), isPrecompiled: false, rejected };
}

export interface CompletedPatterns {
  /** As a snapshot of these patterns carries it. */
  readonly compiledMatcher: Uint8Array;
  /** Patterns that match nothing. */
  readonly rejected: readonly RejectedPattern[];
}

/** The matcher of a snapshot's patterns: who starts from a snapshot that brings it need not compile. */
export function completePatterns(patterns: PolicySnapshot['patterns']): CompletedPatterns {
  const { matcher, rejected } = compilePatterns(patterns);
  return { compiledMatcher: encodeCompiled(patterns, matcher), rejected };
}

function compilePatterns(patterns: PolicySnapshot['patterns']): CompiledMatcher {
  return compileMatcher(
    patterns.map(({ text, context }) => {
      const isDns = context === PatternContext.PATTERN_CONTEXT_DNS_RULE;
      return patternFromCanonical(text, isDns ? 'rules.dns' : 'toFQDNs');
    }),
    randomBytes(4).readInt32LE(),
  );
}

function layOut(snapshot: PolicySnapshot, matcher: Matcher, patternCount: number): TablesImage {
  const ruleSets = snapshot.ruleSets;
  const patternWords = (patternCount + 31) >>> 5;
  return {
    revision: snapshot.revision,
    matcher: matcher.tables,
    policyIds: Uint32Array.from(snapshot.policies, ({ id }) => id).sort(),
    servers: serverRecords(snapshot),
    matchAll: Uint8Array.from(ruleSets, ({ matchAll }) => (matchAll ? 1 : 0)),
    ...allowedTables(ruleSets, patternWords),
    patternWords,
    ...selectorTables(snapshot, patternCount),
    successions: successionPairs(snapshot),
    ...wantedTables(snapshot, patternWords),
    trustedServers: addressWords(snapshot.trustedServers),
    backendDigests: backendRecords(snapshot),
  };
}

function setBit(words: Uint32Array, base: number, bit: number): void {
  const index = base + (bit >>> 5);
  words[index] = words[index]! | (1 << (bit & 31));
}

/** Patterns of the rule sets: each one's ascend, as in the snapshot. A bitmap is never larger than the list that it stands beside. */
function allowedTables(
  ruleSets: PolicySnapshot['ruleSets'],
  patternWords: number,
): Pick<TablesImage, 'allowedFrom' | 'allowedPatterns' | 'allowedBitsAt' | 'allowedBits'> {
  const count = ruleSets.reduce((sum, { patternIndexes }) => sum + patternIndexes.length, 0);
  const isLong = ({ patternIndexes }: { readonly patternIndexes: readonly number[] }): boolean =>
    patternIndexes.length > patternWords;
  const allowedFrom = new Uint32Array(ruleSets.length + 1);
  const allowedPatterns = new Uint32Array(count);
  const allowedBitsAt = new Int32Array(ruleSets.length).fill(-1);
  const allowedBits = new Uint32Array(ruleSets.filter(isLong).length * patternWords);
  let bitsAt = 0;
  for (const [index, ruleSet] of ruleSets.entries()) {
    const { patternIndexes } = ruleSet;
    const from = allowedFrom[index]!;
    allowedPatterns.set(patternIndexes, from);
    allowedFrom[index + 1] = from + patternIndexes.length;
    if (!isLong(ruleSet)) continue;
    for (const pattern of patternIndexes) setBit(allowedBits, bitsAt, pattern);
    allowedBitsAt[index] = bitsAt;
    bitsAt += patternWords;
  }
  return { allowedFrom, allowedPatterns, allowedBitsAt, allowedBits };
}

function serverRecords(snapshot: PolicySnapshot): Uint32Array {
  const indexOf = new Map(snapshot.ruleSets.map(({ id }, index) => [id, index]));
  const records: Uint32Array[] = [];
  for (const policy of snapshot.policies) {
    for (const { server, protocol, ruleSetId } of policy.servers) {
      const record = new Uint32Array(serverRecordWords);
      record[0] = policy.id;
      record.set(addressWords([server]), 1);
      record[5] = protocol;
      record[6] = indexOf.get(ruleSetId)!;
      records.push(record);
    }
  }
  records.sort((a, b) => compareRecord(a, 0, b[0]!, b, 1, b[5]!));
  const all = new Uint32Array(records.length * serverRecordWords);
  records.forEach((record, i) => all.set(record, i * serverRecordWords));
  return all;
}

function backendRecords(snapshot: PolicySnapshot): Uint32Array {
  const records = snapshot.backendDigests.map(({ address, digest }) => {
    const record = new Uint32Array(backendRecordWords);
    record.set(addressWords([address]));
    record[4] = digest;
    return record;
  });
  records.sort((a, b) => compareWords(a, 0, b, 0, 4));
  const all = new Uint32Array(records.length * backendRecordWords);
  records.forEach((record, i) => all.set(record, i * backendRecordWords));
  return all;
}

function selectorTables(
  snapshot: PolicySnapshot,
  patternCount: number,
): Pick<TablesImage, 'sharedSelector' | 'privateOffsets' | 'privatePairs'> {
  const sharedSelector = new Uint32Array(patternCount);
  const byPattern = new Map<number, number[]>();
  for (const { id, patternIndex, policyId } of snapshot.selectors) {
    if (policyId === 0) {
      sharedSelector[patternIndex] = id;
      continue;
    }
    const pairs = byPattern.get(patternIndex) ?? [];
    pairs.push(policyId, id);
    byPattern.set(patternIndex, pairs);
  }
  const privateOffsets = new Uint32Array(patternCount + 1);
  const pairs: number[] = [];
  for (let pattern = 0; pattern < patternCount; pattern++) {
    pairs.push(...(byPattern.get(pattern) ?? []));
    privateOffsets[pattern + 1] = pairs.length / 2;
  }
  return { sharedSelector, privateOffsets, privatePairs: Uint32Array.from(pairs) };
}

/** Which policies took the place of which. */
function successionPairs({ policies }: PolicySnapshot): Uint32Array {
  const pairs = policies.flatMap(({ id, predecessors }) =>
    predecessors.map((former): readonly [number, number] => [former, id]),
  );
  pairs.sort((left, right) => left[0] - right[0] || left[1] - right[1]);
  return Uint32Array.from(pairs.flat());
}

/** Tables of the selectors that the namespace of each endpoint has in its policies. */
function wantedTables(
  { endpoints, policies }: PolicySnapshot,
  patternWords: number,
): Pick<TablesImage, 'namespaceIds' | 'wantedPatterns'> {
  if (policies.every(({ fqdnPatterns }) => fqdnPatterns.length === 0)) {
    return { namespaceIds: new Uint32Array(0), wantedPatterns: new Uint32Array(0) };
  }
  const namespaceIds = Uint32Array.from(
    new Set(endpoints.map(({ namespaceId }) => namespaceId)),
  ).sort();
  const rowOf = new Map([...namespaceIds].map((id, row) => [id, row]));
  const patternsOf = new Map(policies.map(({ id, fqdnPatterns }) => [id, fqdnPatterns]));
  const wantedPatterns = new Uint32Array(namespaceIds.length * patternWords);
  const done = new Set<string>();
  for (const { namespaceId, policyId } of endpoints) {
    const key = `${namespaceId} ${policyId}`;
    if (done.has(key)) continue;
    done.add(key);
    const base = rowOf.get(namespaceId)! * patternWords;
    for (const pattern of patternsOf.get(policyId) ?? []) setBit(wantedPatterns, base, pattern);
  }
  return { namespaceIds, wantedPatterns };
}

/** Addresses as words in memory order. */
function addressWords(addresses: readonly Uint8Array[]): Uint32Array {
  const bytes = new Uint8Array(addresses.length * 16);
  addresses.forEach((address, i) => bytes.set(address, i * 16));
  return new Uint32Array(bytes.buffer);
}
