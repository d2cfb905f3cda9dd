// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Whether other tcx programs run before `from_pod` on pods' interfaces, and before `guard_exit` on trusted ports of their bridges. Both
 * are attached as the first one; a program of root that is attached before them later can redirect packets before `from_pod`
 * verifies their source, and let frames past `guard_exit` (ADR 12). `status` names the interfaces.
 */

import { BpfError } from '@tandem/bpf-loader-node/errors';
import type { Ifindex } from '@tandem/core/ids';
import type { Datapath } from '@tandem/datapath/datapath';
import { type Degradation, degradation } from '@tandem/dns-proxy/admin/degradation';
import type { Logger } from '@tandem/runtime/log';
import type { ClassifiedDevices } from '../endpoint/node-devices.ts';
import type { PodInterface } from '../endpoint/pod-interface.ts';
import { chainsLookedAtMax, precededShownMax } from '../limits.ts';

export type ChainInterface = Pick<PodInterface, 'name' | 'vethIfindex'>;

/** Interfaces with `guard_exit`. */
export function exitsOf({ trustedPorts }: ClassifiedDevices): readonly ChainInterface[] {
  return trustedPorts.map(({ name, ifindex }) => ({ name, vethIfindex: ifindex }));
}

export interface ChainWatchOptions {
  readonly datapath: Pick<Datapath, 'isPreceded'>;
  /** Interfaces of the pods under policy, and trusted ports; one may come twice. */
  readonly interfaces: () => readonly ChainInterface[];
  readonly log: Pick<Logger, 'warn'>;
}

export class ChainWatch {
  readonly #o: ChainWatchOptions;
  /** Names of the interfaces with another program before ours, by index. */
  readonly #preceded = new Map<Ifindex, string>();
  /** Place in the list of interfaces at which the next look begins. */
  #next = 0;

  constructor(options: ChainWatchOptions) {
    this.#o = options;
  }

  /** Asks the kernel for the chains of the next `chainsLookedAtMax` interfaces; new findings are logged. @throws BpfError */
  look(): void {
    const names = new Map(this.#o.interfaces().map((each) => [each.vethIfindex, each.name]));
    for (const ifindex of [...this.#preceded.keys()]) {
      if (!names.has(ifindex)) this.#preceded.delete(ifindex);
    }
    const all = [...names];
    const begin = this.#next < all.length ? this.#next : 0;
    const looked = all.slice(begin, begin + chainsLookedAtMax);
    this.#next = begin + looked.length;
    for (const [ifindex, name] of looked) this.#lookAt(ifindex, name);
  }

  /** Degradations of the last looks. */
  get degradations(): readonly Degradation[] {
    if (this.#preceded.size === 0) return [];
    const names = [...this.#preceded.values()].slice(0, precededShownMax);
    const more = this.#preceded.size - names.length;
    return [
      degradation('endpoint-chain', {
        message: `another tcx program runs before from_pod or guard_exit on ${names.join(', ')}${more > 0 ? ` and ${more} more` : ''}: the source of packets that it redirects is not verified, and frames that it passes are not guarded`,
      }),
    ];
  }

  #lookAt(ifindex: Ifindex, name: string): void {
    if (!this.#isPreceded(ifindex)) {
      this.#preceded.delete(ifindex);
      return;
    }
    if (!this.#preceded.has(ifindex)) {
      this.#o.log.warn('endpoint-chain: another tcx program runs before ours', {
        interface: name,
      });
    }
    this.#preceded.set(ifindex, name);
  }

  #isPreceded(ifindex: Ifindex): boolean {
    try {
      return this.#o.datapath.isPreceded(ifindex);
    } catch (error) {
      // The pod ended meanwhile.
      if (error instanceof BpfError && error.code === 'TANDEM_BPF_NOT_FOUND') return false;
      throw error;
    }
  }
}
