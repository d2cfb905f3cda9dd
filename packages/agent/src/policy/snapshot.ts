// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** What a compilation gives to DNS members, as the snapshot that is streamed and kept on disk. */

import type { MemberPolicy } from '@tandem/core/policy/desired';
import { PatternContext, type PolicySnapshotInit } from '@tandem/proto/gen/messages';

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
