// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The snapshot for DNS members, made of a compilation: it is streamed, and kept on disk. */

import type { RejectedPattern } from '@tandem/core/dns/matcher-compile';
import type { Pattern } from '@tandem/core/dns/pattern';
import type { NamespaceId, PolicyId } from '@tandem/core/ids';
import type { MemberPolicy } from '@tandem/core/policy/model/desired';
import type { CompletedPatterns } from '@tandem/dns-proxy/policy/build-image';
import {
  PatternContext,
  type PolicySnapshot,
  type PolicySnapshotInit,
} from '@tandem/proto/gen/messages';
import { encodeSnapshotPart, joinSnapshotParts } from '@tandem/proto/snapshot';
import { TandemError } from '@tandem/runtime/tandem-error';
import { type Eventual, type Task, wait } from '@tandem/runtime/task';

type SnapshotPatterns = PolicySnapshot['patterns'];

/** Compiles the matcher of patterns. */
export type CompletePatterns = (patterns: SnapshotPatterns) => Eventual<CompletedPatterns>;

export interface EncodedSnapshot {
  readonly snapshot: Uint8Array;
  /** Patterns that match nothing. */
  readonly rejected: readonly RejectedPattern[];
}

/** The lists of a policy that are parts of a snapshot. */
type Part = Exclude<keyof MemberPolicy, 'revision'>;

const parts: { readonly [Name in Part]: (policy: MemberPolicy) => PolicySnapshotInit } = {
  endpoints: ({ endpoints }) => ({ endpoints: [...endpoints] }),
  patterns: ({ patterns }) => ({ patterns: snapshotPatterns(patterns) }),
  selectors: ({ selectors }) => ({
    selectors: selectors.map(({ id, patternIndex, policyId }) => ({ id, patternIndex, policyId })),
  }),
  ruleSets: ({ ruleSets }) => ({
    ruleSets: ruleSets.map(({ id, patternIndexes, matchAll }) => ({
      id,
      patternIndexes: [...patternIndexes],
      matchAll,
    })),
  }),
  policies: ({ policies }) => ({
    policies: policies.map(({ id, servers, predecessors, fqdnPatterns }) => ({
      id,
      servers: [...servers],
      predecessors: [...predecessors],
      fqdnPatterns: [...fqdnPatterns],
    })),
  }),
  trustedServers: ({ trustedServers }) => ({ trustedServers: [...trustedServers] }),
  neverLearn: ({ neverLearn }) => ({
    neverLearn: neverLearn.map(({ address, bits }) => ({ address, bits })),
  }),
  backendDigests: ({ backendDigests }) => ({
    backendDigests: backendDigests.map(({ address, digest }) => ({ address, digest })),
  }),
};
const partNames = Object.keys(parts) as readonly Part[];

/**
 * Encodes snapshots that follow each other: a list that is the same object as in the one before is not encoded again, and
 * patterns that are the same are not compiled again.
 */
export class SnapshotEncoder {
  readonly #completePatterns: CompletePatterns;
  readonly #parts = new Map<Part, { readonly of: unknown; readonly bytes: Uint8Array }>();
  #matcher: {
    readonly of: unknown;
    readonly bytes: Uint8Array;
    readonly rejected: readonly RejectedPattern[];
  } | null = null;

  constructor(completePatterns: CompletePatterns) {
    this.#completePatterns = completePatterns;
  }

  /** With its matcher, if there is room for it. @throws TandemError TANDEM_POLICY_SNAPSHOT: it is too large */
  *encode(policy: MemberPolicy, nodeName: string, createdUnixMs: number): Task<EncodedSnapshot> {
    const { revision, patterns } = policy;
    let matcher = this.#matcher;
    if (matcher?.of !== patterns) {
      const { compiledMatcher, rejected } = yield* wait(
        this.#completePatterns(snapshotPatterns(patterns)),
      );
      matcher = { of: patterns, bytes: encodeSnapshotPart({ compiledMatcher }), rejected };
      this.#matcher = matcher;
    }
    const bare = [
      encodeSnapshotPart({ revision, createdUnixMs, nodeName }),
      ...partNames.map((name) => this.#encoded(name, policy)),
    ];
    const whole = joinSnapshotParts([...bare, matcher.bytes]);
    const encoded = whole.ok ? whole : joinSnapshotParts(bare);
    if (!encoded.ok) throw new TandemError('TANDEM_POLICY_SNAPSHOT', encoded.error);
    return { snapshot: encoded.value, rejected: matcher.rejected };
  }

  #encoded(name: Part, policy: MemberPolicy): Uint8Array {
    const known = this.#parts.get(name);
    if (known !== undefined && known.of === policy[name]) return known.bytes;
    const bytes = encodeSnapshotPart(parts[name](policy));
    this.#parts.set(name, { of: policy[name], bytes });
    return bytes;
  }
}

export function snapshotOf(
  policy: MemberPolicy,
  nodeName: string,
  createdUnixMs: number,
): PolicySnapshotInit {
  const fields = partNames.map((name) => parts[name](policy));
  return Object.assign({ revision: policy.revision, createdUnixMs, nodeName }, ...fields);
}

function snapshotPatterns(patterns: readonly Pattern[]): SnapshotPatterns {
  return patterns.map(({ text, context }) => ({
    text,
    context:
      context === 'rules.dns'
        ? PatternContext.PATTERN_CONTEXT_DNS_RULE
        : PatternContext.PATTERN_CONTEXT_TO_FQDNS,
  }));
}

/** Policy of a snapshot, in the types of a compilation: its numbers become ids here. Patterns are unchanged: members judge them. */
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
    endpoints: snapshot.endpoints.map((endpoint) => {
      const { address, endpointId, namespace, pod } = endpoint;
      return {
        ...{ address, endpointId, namespace, pod },
        policyId: endpoint.policyId as PolicyId,
        namespaceId: endpoint.namespaceId as NamespaceId,
      };
    }),
    selectors: snapshot.selectors.map(({ id, patternIndex, policyId }) => ({
      ...{ id, patternIndex },
      policyId: policyId as PolicyId,
    })),
    policies: snapshot.policies.map(({ id, servers, predecessors, fqdnPatterns }) => ({
      id: id as PolicyId,
      predecessors: predecessors.map((each) => each as PolicyId),
      fqdnPatterns,
      servers: servers.map(({ server, protocol, ruleSetId }) => ({
        server,
        protocol: protocol === 6 ? 6 : 17,
        ruleSetId,
      })),
    })),
  };
}
