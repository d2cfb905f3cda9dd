// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Whether a sandbox's pod is judged by its policy, at the interface that CNI made for it. */

import { compareAddresses, formatAddress } from '@tandem/core/net/ip';
import type { Diagnostic } from '@tandem/core/policy/desired';
import type { AttachedEndpoint } from '../endpoint/attacher.ts';
import type { Enforcement } from './gate.ts';
import type { Sandbox } from './sandboxes.ts';

/** What is applied, as the policy controller has it. */
export interface AppliedPolicy {
  readonly endpoints: readonly AttachedEndpoint[];
  readonly diagnostics: readonly Diagnostic[];
  onApplied(listener: () => void): () => void;
}

export class EnforcedPods implements Enforcement {
  readonly #policy: AppliedPolicy;

  constructor(policy: AppliedPolicy) {
    this.#policy = policy;
  }

  problemOf({ podKey, containerId, addresses, interfaceName }: Sandbox): string | null {
    const { endpoints, diagnostics } = this.#policy;
    const subject = `Pod/${podKey}`;
    const fault = diagnostics.find((each) => each.severity === 'error' && each.subject === subject);
    if (fault !== undefined) return fault.message;
    const own = endpoints.filter(({ pod }) => `${pod.namespace}/${pod.name}` === podKey);
    if (own.length === 0) return 'the agent has not received this pod from the API server yet';
    for (const address of addresses) {
      const endpoint = own.find((each) => compareAddresses(each.address, address) === 0);
      if (endpoint === undefined)
        return `its address ${formatAddress(address)} is not enforced yet`;
      // One of before may have had the same address and an interface of the same name.
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
