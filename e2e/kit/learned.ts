// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Addresses that the kernel has learned: those that connections may be opened to, by selector. */

import { readFileSync } from 'node:fs';
import { formatAddress } from '@tandem/core/net/ip';
import { TD_FQDN_SELECTORS_MAX, tdFqdn, tdFqdnSlot } from '@tandem/datapath/abi.gen';
import { Datapath } from '@tandem/datapath/datapath';
import type { TandemNode } from './tandem-node.ts';

export interface LearnedSlot {
  readonly selector: number;
  /** CLOCK_BOOTTIME, seconds. */
  readonly expires: number;
  readonly namespaceId: number;
}

/** By the address in canonical text, the slots of all its pages. */
export function learnedAddresses(tandem: Pick<TandemNode, 'pinRoot'>): Map<string, LearnedSlot[]> {
  using datapath = Datapath.open(tandem.pinRoot);
  const learned = new Map<string, LearnedSlot[]>();
  for (const [key, value] of datapath.map('fqdn').entries()) {
    const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
    const address = formatAddress(key);
    const slots = learned.get(address) ?? [];
    for (let i = 0; i < TD_FQDN_SELECTORS_MAX; i++) {
      const at = tdFqdn.slot + i * tdFqdnSlot.size;
      const selector = view.getUint32(at + tdFqdnSlot.selector, true);
      const expires = view.getUint32(at + tdFqdnSlot.expires_s, true);
      const namespaceId = view.getUint32(at + tdFqdnSlot.namespace_id, true);
      if (selector !== 0) slots.push({ selector, expires, namespaceId });
    }
    learned.set(address, slots);
  }
  return learned;
}

/** CLOCK_BOOTTIME, seconds. */
export function boottimeSeconds(): number {
  return Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0]);
}
