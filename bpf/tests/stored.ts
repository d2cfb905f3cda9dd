// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** What `fqdn` and `quotas` hold, read back for assertions. */

import { addressText, mappedAddressBytes } from '@tandem/testing/address';
import type { Fixture } from './fixture.ts';

export interface StoredSlot {
  readonly selector: number;
  readonly expires: number;
  readonly namespaceId: number;
  readonly page: number;
}

/** Occupied slots by address text (IPv4 as ::ffff:a.b.c.d in hexadecimal), pages in order. */
export function allSlots(fixture: Fixture): Map<string, StoredSlot[]> {
  const { structs } = fixture;
  const slots = new Map<string, StoredSlot[]>();
  const layout = structs.layout('td_fqdn_slot');
  const at = structs.layout('td_fqdn').fields.get('slot');
  if (at === undefined) throw new Error('td_fqdn.slot');
  for (const [key, value] of fixture.map('fqdn').entries()) {
    const address = addressText(structs.slice('td_fqdn_key', key, 'addr'));
    const page = structs.read('td_fqdn_key', key, 'page');
    const list = slots.get(address) ?? [];
    for (let i = 0; i < at.count; i++) {
      const start = at.offset + i * layout.size;
      const bytes = value.subarray(start, start + layout.size);
      const selector = structs.read('td_fqdn_slot', bytes, 'selector');
      if (selector === 0) continue;
      list.push({
        selector,
        expires: structs.read('td_fqdn_slot', bytes, 'expires_s'),
        namespaceId: structs.read('td_fqdn_slot', bytes, 'namespace_id'),
        page,
      });
    }
    slots.set(address, list);
  }
  for (const list of slots.values()) list.sort((a, b) => a.page - b.page);
  return slots;
}

export function slotsOf(fixture: Fixture, address: string): readonly StoredSlot[] {
  return allSlots(fixture).get(addressText(mappedAddressBytes(address))) ?? [];
}

/** Quotas that are not 0, by key. */
export function quotasUsed(
  fixture: Fixture,
  field: 'used' | 'refused' = 'used',
): Record<number, number> {
  const used: Record<number, number> = {};
  for (const [key, value] of fixture.map('quotas').entries()) {
    const count = fixture.structs.read('td_quota', value, field);
    if (count !== 0) used[new DataView(key.buffer, key.byteOffset).getUint32(0, true)] = count;
  }
  return used;
}
