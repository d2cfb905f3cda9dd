// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Whether the policy of a sandbox's pod is enforced, at the interface that CNI made for it. */

import { compareAddresses, formatAddress } from '@tandem/core/net/ip';
import type { Diagnostic } from '@tandem/core/policy/model/desired';
import type { AttachedEndpoint } from '../endpoint/attacher.ts';
import type { Enforcement } from './gate.ts';
import type { Sandbox } from './sandboxes.ts';

/** The applied policy, as the policy controller has it. */
export interface AppliedPolicy {
  readonly endpoints: readonly AttachedEndpoint[];
  readonly diagnostics: readonly Diagnostic[];
  onApplied(listener: () => void): () => void;
}

/** The applied policy by pod: read again each time that policy is applied, for all pods that wait. */
interface Applied {
  readonly byPod: ReadonlyMap<string, readonly AttachedEndpoint[]>;
  readonly faults: ReadonlyMap<string, string>;
}

export class EnforcedPods implements Enforcement {
  readonly #policy: AppliedPolicy;
  readonly #unread: () => string;
  #applied: Applied;

  /** `unread`: lists that were never read, for people; '': none. */
  constructor(policy: AppliedPolicy, unread: () => string) {
    this.#policy = policy;
    this.#unread = unread;
    this.#applied = readApplied(policy);
    policy.onApplied(() => {
      this.#applied = readApplied(policy);
    });
  }

  problemOf({ podKey, containerId, addresses, interfaceName }: Sandbox): string | null {
    const unread = this.#unread();
    if (unread !== '') {
      return `a policy of ${unread}, which the agent may not read, could select this pod`;
    }
    const { byPod, faults } = this.#applied;
    const fault = faults.get(`Pod/${podKey}`);
    if (fault !== undefined) return fault;
    const own = byPod.get(podKey) ?? [];
    if (own.length === 0) return 'the agent has not received this pod from the API server yet';
    for (const address of addresses) {
      const endpoint = own.find((each) => compareAddresses(each.address, address) === 0);
      if (endpoint === undefined)
        return `its address ${formatAddress(address)} is not enforced yet`;
      // A former sandbox may have had the same address and an interface of the same name.
      if (endpoint.sandboxId !== containerId) {
        return `its address ${formatAddress(address)} is still enforced as of another sandbox`;
      }
      const { name } = endpoint.interface;
      if (interfaceName !== null && name !== interfaceName) {
        return `it is enforced at ${name}, and not yet at ${interfaceName}`;
      }
    }
    return null;
  }

  onApplied(listener: () => void): () => void {
    return this.#policy.onApplied(listener);
  }
}

function readApplied({ endpoints, diagnostics }: AppliedPolicy): Applied {
  const faults = new Map<string, string>();
  for (const { severity, subject, message } of diagnostics) {
    if (severity === 'error' && !faults.has(subject)) faults.set(subject, message);
  }
  const byPod = Map.groupBy(endpoints, ({ pod }) => `${pod.namespace}/${pod.name}`);
  return { byPod, faults };
}
