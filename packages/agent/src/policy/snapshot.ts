// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** What a compilation gives to DNS members, as the snapshot that is streamed and kept on disk, and back. */

import { type Pattern, patternFromCanonical } from '@tandem/core/dns/pattern';
import type { MemberPolicy } from '@tandem/core/policy/desired';
import { PatternContext, type PolicySnapshotInit } from '@tandem/proto/gen/messages';
import { decodePolicySnapshot } from '@tandem/proto/snapshot';

export function snapshotOf(
  policy: MemberPolicy,
  nodeName: string,
  createdUnixMs: number,
): PolicySnapshotInit {
  return {
    revision: policy.revision,
    createdUnixMs,
    nodeName,
    endpoints: [...policy.endpoints],
    patterns: policy.patterns.map(({ text, context }) => ({
      text,
      context:
        context === 'rules.dns'
          ? PatternContext.PATTERN_CONTEXT_DNS_RULE
          : PatternContext.PATTERN_CONTEXT_TO_FQDNS,
    })),
    selectors: policy.selectors.map(({ id, patternIndex, policyId }) => ({
      id,
      patternIndex,
      policyId,
    })),
    ruleSets: policy.ruleSets.map(({ id, patternIndexes, matchAll }) => ({
      id,
      patternIndexes: [...patternIndexes],
      matchAll,
    })),
    policies: policy.policies.map(({ id, servers }) => ({ id, servers: [...servers] })),
    trustedServers: [...policy.trustedServers],
    neverLearn: policy.neverLearn.map(({ address, bits }) => ({ address, bits })),
  };
}

const protocolTcp = 6;
const protocolUdp = 17;

/** What members serve by a snapshot; null when it is of no use. */
export function membersOf(bytes: Uint8Array): MemberPolicy | null {
  const decoded = decodePolicySnapshot(bytes);
  if (!decoded.ok) return null;
  const snapshot = decoded.value;
  const patterns: Pattern[] = [];
  for (const { text, context } of snapshot.patterns) {
    const isDns = context === PatternContext.PATTERN_CONTEXT_DNS_RULE;
    const pattern = patternFromCanonical(text, isDns ? 'rules.dns' : 'toFQDNs');
    if (pattern === null) return null;
    patterns.push(pattern);
  }
  const { revision, endpoints, selectors, ruleSets, policies, trustedServers, neverLearn } =
    snapshot;
  return {
    revision,
    endpoints,
    patterns,
    selectors,
    ruleSets,
    policies: policies.map(({ id, servers }) => ({
      id,
      servers: servers.map(({ server, protocol, ruleSetId }) => ({
        server,
        protocol: protocol === protocolTcp ? protocolTcp : protocolUdp,
        ruleSetId,
      })),
    })),
    trustedServers,
    neverLearn,
  };
}
