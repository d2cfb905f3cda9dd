// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Content of `fqdn`, `quotas` and the order, read back for assertions. */

import assert from 'node:assert/strict';
import { addressText, mappedAddressBytes } from '@tandem/testing/address';
import type { Fixture } from './fixture.ts';
import { OrderState, spaceOfWord } from './order-state.ts';

export interface StoredSlot {
  readonly selector: number;
  readonly expires: number;
  /** Namespace of the pair; 0: an offer. */
  readonly namespaceId: number;
  readonly page: number;
  readonly word: number;
}

/** Occupied slots by address text (IPv4 as ::ffff:a.b.c.d in hexadecimal), pages in order. */
export function allSlots(fixture: Fixture): Map<string, StoredSlot[]> {
  const { structs } = fixture;
  const { spaces } = new OrderState(fixture);
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
      const word = structs.read('td_fqdn_slot', bytes, 'namespace_id');
      list.push({
        selector,
        expires: structs.read('td_fqdn_slot', bytes, 'expires_s'),
        namespaceId: spaces[spaceOfWord(word)]?.namespaceId ?? -1,
        page,
        word,
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

/** Slots that are counted, by namespace id and by selector id. */
export function counted(fixture: Fixture): Record<number, number> {
  const used: Record<number, number> = {};
  for (const [key, value] of fixture.map('quotas').entries()) {
    const count = fixture.structs.read('td_quota', value, 'used');
    if (count !== 0) used[new DataView(key.buffer, key.byteOffset).getUint32(0, true)] = count;
  }
  for (const space of new OrderState(fixture).spaces) {
    if (space.used !== 0) used[space.namespaceId] = space.used;
  }
  return used;
}

/** Each address has no more pages than its pairs need, none of them dead, and those beside the first are counted. */
function assertPacked(fixture: Fixture, slots: ReadonlyMap<string, readonly StoredSlot[]>): void {
  const { structs } = fixture;
  const slotsPerPage = structs.layout('td_fqdn').fields.get('slot')?.count ?? 0;
  const pages = new Map<string, number>();
  for (const [key, value] of fixture.map('fqdn').entries()) {
    const address = addressText(structs.slice('td_fqdn_key', key, 'addr'));
    assert.equal(structs.read('td_fqdn', value, 'dead'), 0, `${address} has a dead page`);
    pages.set(address, (pages.get(address) ?? 0) + 1);
  }
  let extra = 0;
  for (const [address, count] of pages) {
    const pairs = slots.get(address)?.length ?? 0;
    assert.equal(count, Math.ceil(pairs / slotsPerPage), `${pairs} pairs of ${address}`);
    extra += count - 1;
  }
  assert.equal(new OrderState(fixture).extraPages, extra, 'pages beside the first');
}

/** Order, slots and counts say the same. */
export function assertWhole(fixture: Fixture): void {
  const slots = allSlots(fixture);
  assertPacked(fixture, slots);
  new OrderState(fixture).assertWhole(slots);
  const expected: Record<number, number> = {};
  for (const { selector, namespaceId } of [...slots.values()].flat()) {
    expected[selector] = (expected[selector] ?? 0) + 1;
    expected[namespaceId] = (expected[namespaceId] ?? 0) + 1;
  }
  assert.deepEqual(counted(fixture), expected);
}

/** A page of the address was used last 500 s after the boot. */
export function usePage(fixture: Fixture, address: string, page: number): void {
  const { structs } = fixture;
  const key = structs.bytes('td_fqdn_key', { addr: mappedAddressBytes(address), page });
  const value = fixture.map('fqdn').lookup(key);
  assert.ok(value !== null);
  structs.write('td_fqdn', value, 'last_used_ns', 500n * 1_000_000_000n);
  fixture.map('fqdn').update(key, value);
}
