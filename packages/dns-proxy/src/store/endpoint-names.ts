// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Which pod an endpoint id or an address is, by the policy in force: for people who read events. Pods
 * that are gone keep their name by id for a while, because their events are still shown.
 */

import type { EndpointId } from '@tandem/core/ids';
import type { SnapshotEndpoint } from '@tandem/proto/gen/messages';
import { endpointNamesMax } from './limits.ts';

export type NamedEndpoint = Pick<
  SnapshotEndpoint,
  'address' | 'endpointId' | 'namespace' | 'pod' | 'policyId' | 'namespaceId'
>;

const keyOf = (bytes: Uint8Array, at: number): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset + at, 16).toString('latin1');

export class EndpointNames {
  /** Endpoints of the policy in force. */
  endpoints: readonly NamedEndpoint[] = [];
  readonly #byId = new Map<number, string>();
  #namespaces: ReadonlyMap<number, string> = new Map();
  #byAddress = new Map<string, NamedEndpoint>();

  update(endpoints: readonly NamedEndpoint[]): void {
    this.endpoints = endpoints;
    this.#byAddress = new Map();
    this.#namespaces = new Map(
      endpoints.map(({ namespaceId, namespace }) => [namespaceId, namespace]),
    );
    for (const endpoint of endpoints) {
      this.#byAddress.set(keyOf(endpoint.address, 0), endpoint);
      // Insertion order is age: what is in force is the youngest.
      this.#byId.delete(endpoint.endpointId);
      this.#byId.set(endpoint.endpointId, `${endpoint.namespace}/${endpoint.pod}`);
    }
    for (const id of this.#byId.keys()) {
      if (this.#byId.size <= endpointNamesMax) break;
      this.#byId.delete(id);
    }
  }

  /** "namespace/pod", empty when it is not known. */
  podOf(endpointId: EndpointId): string {
    return this.#byId.get(endpointId) ?? '';
  }

  /** Its number when no endpoint of the policy in force is of it. */
  namespaceOf(namespaceId: number): string {
    return this.#namespaces.get(namespaceId) ?? `#${namespaceId}`;
  }

  /** The endpoint with the 16-byte address at `at`. */
  at(bytes: Uint8Array, at = 0): NamedEndpoint | undefined {
    return this.#byAddress.get(keyOf(bytes, at));
  }

  /** "namespace/pod" of the address at `at`, empty when it is no pod of this node. */
  podAt(bytes: Uint8Array, at = 0): string {
    const endpoint = this.at(bytes, at);
    return endpoint === undefined ? '' : `${endpoint.namespace}/${endpoint.pod}`;
  }
}
