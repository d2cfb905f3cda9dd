// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

// A PolicySnapshot to bytes and back. What comes back is consistent: versions known, addresses 16 bytes,
// every reference meets its target. A member that serves from it need not check again.

import { type DecodeResult, decodeResult } from './codec.ts';
import { PatternContext, PolicySnapshot, type PolicySnapshotInit } from './gen/messages.ts';
import { SNAPSHOT_BYTES_MAX, SNAPSHOT_SCHEMA_VERSION } from './limits.ts';

const ADDRESS_BYTES = 16;
const ADDRESS_BITS = 128;
const SELECTOR_BIT = 0x8000_0000;
const PROTOCOL_TCP = 6;
const PROTOCOL_UDP = 17;

/** Encodes a snapshot of SNAPSHOT_SCHEMA_VERSION. Error: over SNAPSHOT_BYTES_MAX. */
export function encodePolicySnapshot(snapshot: PolicySnapshotInit): DecodeResult<Uint8Array> {
  const bytes = PolicySnapshot.encode({ ...snapshot, schemaVersion: SNAPSHOT_SCHEMA_VERSION });
  if (bytes.length > SNAPSHOT_BYTES_MAX) {
    return { ok: false, error: `${bytes.length} bytes, the limit is ${SNAPSHOT_BYTES_MAX}` };
  }
  return { ok: true, value: bytes };
}

/** Decodes and checks a snapshot. `bytes` may be anything and must not change while the result is in use. */
export function decodePolicySnapshot(bytes: Uint8Array): DecodeResult<PolicySnapshot> {
  if (bytes.length > SNAPSHOT_BYTES_MAX) {
    return { ok: false, error: `${bytes.length} bytes, the limit is ${SNAPSHOT_BYTES_MAX}` };
  }
  const decoded = decodeResult(PolicySnapshot, bytes);
  if (!decoded.ok) return decoded;
  const snapshot = decoded.value;
  if (snapshot.schemaVersion !== SNAPSHOT_SCHEMA_VERSION) {
    const versions = `${snapshot.schemaVersion}, this program reads ${SNAPSHOT_SCHEMA_VERSION}`;
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
    if (endpoint.address.length !== ADDRESS_BYTES) return `endpoints[${index}].address`;
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
    if (selector.id < SELECTOR_BIT) return `selectors[${index}].id is no selector id`;
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
    for (const [at, server] of policy.servers.entries()) {
      const path = `policies[${index}].servers[${at}]`;
      if (server.server.length !== ADDRESS_BYTES) return `${path}.server`;
      if (server.protocol !== PROTOCOL_TCP && server.protocol !== PROTOCOL_UDP) {
        return `${path}.protocol is ${server.protocol}`;
      }
      if (!ruleSetIds.has(server.ruleSetId)) return `${path}.rule_set_id names no rule set`;
    }
  }
  return null;
}

function addressListError(snapshot: PolicySnapshot): string | null {
  for (const [index, server] of snapshot.trustedServers.entries()) {
    if (server.length !== ADDRESS_BYTES) return `trusted_servers[${index}]`;
  }
  for (const [index, prefix] of snapshot.neverLearn.entries()) {
    if (prefix.address.length !== ADDRESS_BYTES) return `never_learn[${index}].address`;
    if (prefix.bits > ADDRESS_BITS) return `never_learn[${index}].bits is ${prefix.bits}`;
  }
  return null;
}
