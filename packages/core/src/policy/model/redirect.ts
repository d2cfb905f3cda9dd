// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A frontend of a CiliumLocalRedirectPolicy with its backends: what redirects.ts plans, and the agent writes as rules. */

export interface RedirectBackend {
  readonly address: Uint8Array;
  readonly port: number;
  /** `namespace/name` of the pod. */
  readonly pod: string;
}

/** One address and port whose traffic policies redirect. */
export interface Redirect {
  /** `CiliumLocalRedirectPolicy/namespace/name`. */
  readonly subject: string;
  readonly namespace: string;
  readonly address: Uint8Array;
  readonly port: number;
  readonly protocol: 6 | 17;
  /** Ready ones, by address. Empty: nothing is redirected. */
  readonly backends: readonly RedirectBackend[];
  /** Addresses of pods that end but are ready still: what they have in hand is theirs. */
  readonly ending: readonly Uint8Array[];
  /** Pods of this node that the policy selects, ready or not, with their ports: who may answer here. */
  readonly selected: readonly RedirectBackend[];
  /** The frontend is an address that no Service has: no server past the redirect stands for the backends. */
  readonly isAddress: boolean;
  /**
   * A backend's own DNS is judged by name, so the members ask for it. Were their queries redirected, they would come to the
   * backend that asks: they go on to the frontend instead.
   */
  readonly isAskedByName: boolean;
  /** Labels that its backends have at least. */
  readonly labels: ReadonlyMap<string, string>;
  readonly backendPort: number;
}
