// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

// A PolicySnapshot to bytes and back. What comes back is consistent: versions known, addresses 16 bytes,
// every reference meets its target. A member that serves from it need not check again.

import { type DecodeResult, decodeResult } from './codec.ts';
import { PatternContext, PolicySnapshot, type PolicySnapshotInit } from './gen/messages.ts';
import { snapshotBytesMax, snapshotSchemaVersion } from './limits.ts';

const addressBytes = 16;
const addressBits = 128;
const selectorBit = 0x8000_0000;
const protocolTcp = 6;
const protocolUdp = 17;

/** Encodes a snapshot of snapshotSchemaVersion. Error: over snapshotBytesMax. */
export function encodePolicySnapshot(snapshot: PolicySnapshotInit): DecodeResult<Uint8Array> {
  const bytes = PolicySnapshot.encode({ ...snapshot, schemaVersion: snapshotSchemaVersion });
  if (bytes.length > snapshotBytesMax) {
    return { ok: false, error: `${bytes.length} bytes, the limit is ${snapshotBytesMax}` };
  }
  return { ok: true, value: bytes };
}

/** Some fields of a snapshot. A snapshot is its parts one after the other, in any order, each field in one of them. */
export function encodeSnapshotPart(part: PolicySnapshotInit): Uint8Array {
  return PolicySnapshot.encode(part);
}

/** A snapshot of snapshotSchemaVersion of such parts. Error: over snapshotBytesMax. */
export function joinSnapshotParts(parts: readonly Uint8Array[]): DecodeResult<Uint8Array> {
  const all = [PolicySnapshot.encode({ schemaVersion: snapshotSchemaVersion }), ...parts];
  const length = all.reduce((sum, part) => sum + part.length, 0);
  if (length > snapshotBytesMax) {
    return { ok: false, error: `${length} bytes, the limit is ${snapshotBytesMax}` };
  }
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const part of all) {
    bytes.set(part, at);
    at += part.length;
  }
  return { ok: true, value: bytes };
}

/** Decodes and checks a snapshot. `bytes` may be anything and must not change while the result is in use. */
export function decodePolicySnapshot(bytes: Uint8Array): DecodeResult<PolicySnapshot> {
  if (bytes.length > snapshotBytesMax) {
    return { ok: false, error: `${bytes.length} bytes, the limit is ${snapshotBytesMax}` };
  }
  const decoded = decodeResult(PolicySnapshot, bytes);
  if (!decoded.ok) return decoded;
  const snapshot = decoded.value;
  if (snapshot.schemaVersion !== snapshotSchemaVersion) {
    const versions = `${snapshot.schemaVersion}, this program reads ${snapshotSchemaVersion}`;
    return { ok: false, error: `snapshot has schema version ${versions}` };
  }
  const error =
    (snapshot.revision === 0 ? 'revision is 0' : null) ??
    endpointError(snapshot) ??
    selectorError(snapshot) ??
    policyError(snapshot) ??
    addressListError(snapshot);
  return error === null ? decoded : { ok: false, error: `snapshot: ${error}` };
}

function endpointError(snapshot: PolicySnapshot): string | null {
  for (const [index, endpoint] of snapshot.endpoints.entries()) {
    if (endpoint.address.length !== addressBytes) return `endpoints[${index}].address`;
    if (endpoint.endpointId === 0) return `endpoints[${index}].endpoint_id is 0`;
  }
  return null;
}

function selectorError(snapshot: PolicySnapshot): string | null {
  const patternCount = snapshot.patterns.length;
  for (const [index, pattern] of snapshot.patterns.entries()) {
    const isKnown =
      pattern.context === PatternContext.PATTERN_CONTEXT_TO_FQDNS ||
      pattern.context === PatternContext.PATTERN_CONTEXT_DNS_RULE;
    if (!isKnown) return `patterns[${index}].context is ${pattern.context}`;
  }
  for (const [index, selector] of snapshot.selectors.entries()) {
    if (selector.id < selectorBit) return `selectors[${index}].id is no selector id`;
    if (selector.patternIndex >= patternCount) return `selectors[${index}].pattern_index`;
  }
  for (const [index, ruleSet] of snapshot.ruleSets.entries()) {
    let previous = -1;
    for (const patternIndex of ruleSet.patternIndexes) {
      if (patternIndex >= patternCount || patternIndex <= previous) {
        return `rule_sets[${index}].pattern_indexes`;
      }
      previous = patternIndex;
    }
  }
  return null;
}

function policyError(snapshot: PolicySnapshot): string | null {
  const ruleSetIds = new Set<number>();
  for (const ruleSet of snapshot.ruleSets) ruleSetIds.add(ruleSet.id);
  if (ruleSetIds.size !== snapshot.ruleSets.length) return 'rule_sets: an id stands twice';
  const policyIds = new Set<number>();
  for (const [index, policy] of snapshot.policies.entries()) {
    if (policy.id === 0 || policyIds.has(policy.id)) return `policies[${index}].id`;
    policyIds.add(policy.id);
    if (policy.fqdnPatterns.some((pattern) => pattern >= snapshot.patterns.length)) {
      return `policies[${index}].fqdn_patterns`;
    }
    for (const [at, server] of policy.servers.entries()) {
      const path = `policies[${index}].servers[${at}]`;
      if (server.server.length !== addressBytes) return `${path}.server`;
      if (server.protocol !== protocolTcp && server.protocol !== protocolUdp) {
        return `${path}.protocol is ${server.protocol}`;
      }
      if (!ruleSetIds.has(server.ruleSetId)) return `${path}.rule_set_id names no rule set`;
    }
  }
  return null;
}

function addressListError(snapshot: PolicySnapshot): string | null {
  for (const [index, server] of snapshot.trustedServers.entries()) {
    if (server.length !== addressBytes) return `trusted_servers[${index}]`;
  }
  for (const [index, prefix] of snapshot.neverLearn.entries()) {
    if (prefix.address.length !== addressBytes) return `never_learn[${index}].address`;
    if (prefix.bits > addressBits) return `never_learn[${index}].bits is ${prefix.bits}`;
  }
  for (const [index, backends] of snapshot.backendDigests.entries()) {
    if (backends.address.length !== addressBytes) return `backend_digests[${index}].address`;
  }
  return null;
}
