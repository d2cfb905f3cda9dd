// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** What a compilation gives to DNS members, as the snapshot that is streamed and kept on disk. */

import type { Pattern } from '@tandem/core/dns/pattern';
import type { MemberPolicy } from '@tandem/core/policy/desired';
import {
  PatternContext,
  type PolicySnapshot,
  type PolicySnapshotInit,
} from '@tandem/proto/gen/messages';

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
    policies: policy.policies.map(({ id, servers, predecessors, fqdnPatterns }) => ({
      id,
      servers: [...servers],
      predecessors: [...predecessors],
      fqdnPatterns: [...fqdnPatterns],
    })),
    trustedServers: [...policy.trustedServers],
    neverLearn: policy.neverLearn.map(({ address, bits }) => ({ address, bits })),
    backendDigests: policy.backendDigests.map(({ address, digest }) => ({ address, digest })),
  };
}

/** What a snapshot says, in the terms of a compilation. Patterns are what they are: members judge them. */
export function memberPolicyOf(snapshot: PolicySnapshot): MemberPolicy {
  const patterns = snapshot.patterns.map(({ text, context }): Pattern => {
    const isDns = context === PatternContext.PATTERN_CONTEXT_DNS_RULE;
    return { text, context: isDns ? 'rules.dns' : 'toFQDNs' };
  });
  // Not the matcher: it is megabytes, and this is kept.
  const { compiledMatcher: _matcher, ...rest } = snapshot;
  return {
    ...rest,
    patterns,
    policies: snapshot.policies.map(({ id, servers, predecessors, fqdnPatterns }) => ({
      id,
      predecessors,
      fqdnPatterns,
      servers: servers.map(({ server, protocol, ruleSetId }) => ({
        server,
        protocol: protocol === 6 ? 6 : 17,
        ruleSetId,
      })),
    })),
  };
}
