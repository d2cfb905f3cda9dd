// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The policy that the DNS member serves, for status, and the names of its pods, for events. */

import type { PolicySnapshot } from '@tandem/proto/gen/messages';
import { decodePolicySnapshot } from '@tandem/proto/snapshot';
import { TandemError } from '@tandem/runtime/tandem-error';
import type { PolicyFacts } from '../admin/context.ts';
import type { PolicyOrigin } from '../admin/process-degradations.ts';
import type { NodeStore } from '../store/node-store.ts';

const noPolicy: PolicyFacts = {
  revision: 0,
  origin: 'none',
  nodeName: '',
  createdUnixMs: 0,
  endpoints: 0,
  patterns: 0,
  policies: 0,
};

export class PolicyInForce {
  readonly #endpoints: NodeStore['endpoints'];
  #facts: PolicyFacts = noPolicy;

  constructor(endpoints: NodeStore['endpoints']) {
    this.#endpoints = endpoints;
  }

  get facts(): PolicyFacts {
    return this.#facts;
  }

  /** The DNS member serves this snapshot. @throws TandemError when it cannot be decoded */
  set(snapshot: Uint8Array, origin: PolicyOrigin): void {
    const decoded = decodePolicySnapshot(snapshot);
    if (!decoded.ok) throw new TandemError('TANDEM_POLICY_SNAPSHOT', decoded.error);
    this.#facts = factsOf(decoded.value, origin);
    this.#endpoints.update(decoded.value.endpoints.map(ownedEndpoint));
  }
}

function factsOf(snapshot: PolicySnapshot, origin: PolicyOrigin): PolicyFacts {
  const { revision, nodeName, createdUnixMs, endpoints, patterns, policies } = snapshot;
  return {
    revision,
    origin,
    nodeName,
    createdUnixMs,
    endpoints: endpoints.length,
    patterns: patterns.length,
    policies: policies.length,
  };
}

/** The snapshot's bytes must not be kept alive by an address in them. */
function ownedEndpoint(
  endpoint: PolicySnapshot['endpoints'][number],
): Parameters<NodeStore['endpoints']['update']>[0][number] {
  const { endpointId, policyId, namespaceId, namespace, pod } = endpoint;
  const address = endpoint.address.slice();
  return { address, endpointId, policyId, namespaceId, namespace, pod };
}
