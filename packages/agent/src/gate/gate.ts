// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Holds the start of each pod, in ADD of the last CNI plugin, until its policy is enforced at its interface. */

import { readCniResult } from './cni-result.ts';
import type { GateCall } from './gate-call.ts';
import type { GateHandler } from './gate-server.ts';
import { hostInterface, type InterfaceView } from './host-interface.ts';
import type { Sandbox, Sandboxes } from './sandboxes.ts';

/** The part of policy that the gate reads. */
export interface Enforcement {
  /** Reason for which the sandbox's pod is not enforced at its interface; null: it is enforced. */
  problemOf(sandbox: Sandbox): string | null;
  /** Calls `listener` each time that policy was applied; gives the function that ends it. */
  onApplied(listener: () => void): () => void;
}

export interface GateOptions {
  readonly view: InterfaceView;
  readonly sandboxes: Sandboxes;
  readonly enforcement: Enforcement;
}

export class Gate implements GateHandler {
  readonly #o: GateOptions;

  constructor(options: GateOptions) {
    this.#o = options;
  }

  async admit(call: GateCall, signal: AbortSignal): Promise<string | null> {
    const network = readCniResult(call.prevResult, call.interfaceName);
    if (!network.ok)
      return `the result of the preceding CNI plugins cannot be read: ${network.error}`;
    const { sandboxes, enforcement } = this.#o;
    const { pod, containerId } = call;
    await this.#o.view.catchUp('links');
    const sandbox: Sandbox = {
      podKey: `${pod.namespace}/${pod.name}`,
      uid: pod.uid,
      containerId,
      addresses: network.value.addresses,
      interfaceName: await hostInterface(network.value, this.#o.view),
    };
    if (signal.aborted) return 'the interfaces of the node could not be read in time';
    const { promise, resolve } = Promise.withResolvers<string | null>();
    const look = (): void => {
      if (enforcement.problemOf(sandbox) === null) resolve(null);
    };
    const onTimeout = (): void => resolve(enforcement.problemOf(sandbox));
    const ignore = enforcement.onApplied(look);
    signal.addEventListener('abort', onTimeout, { once: true });
    try {
      if (!sandboxes.add(sandbox)) return 'the node has too many sandboxes';
      look();
      return await promise;
    } finally {
      ignore();
      signal.removeEventListener('abort', onTimeout);
    }
  }

  removed({ pod, containerId }: GateCall): void {
    this.#o.sandboxes.remove(`${pod.namespace}/${pod.name}`, containerId);
  }
}
