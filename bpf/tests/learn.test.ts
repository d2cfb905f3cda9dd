// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** learn: what it takes, refuses and counts. Safety rules 5 and 17. Concurrency: learn.concurrent.test.ts. */

import assert from 'node:assert/strict';
import { after, afterEach, beforeEach, describe, test } from 'node:test';
import { addressBytes, mappedAddressBytes } from '@tandem/testing/address';
import { Fixture } from './fixture.ts';
import { quota } from './kernel-world.ts';
import { type LearnRequest, learn } from './learning.ts';
import { OrderState, setShare } from './order-state.ts';
import {
  assertWhole,
  type StoredSlot,
  counted as slotsCounted,
  slotsOf as storedSlots,
  usePage,
} from './stored.ts';

const fixture = new Fixture();
after(() => fixture[Symbol.dispose]());
beforeEach(() => fixture.reset());
afterEach(() => assertWhole(fixture));

const address = '203.0.113.10';
const s1 = 0x80000001;
const s2 = 0x80000002;

function add(selector: number, expires: number, more: Partial<LearnRequest> = {}): LearnRequest {
  return { op: 'ADD', address, selector, expires, ...more };
}

/** Without the words of slots, which are the order's. */
const slotsOf = (of: Fixture, text: string): Omit<StoredSlot, 'word'>[] =>
  storedSlots(of, text).map(({ selector, expires, namespaceId, page }) => {
    return { selector, expires, namespaceId, page };
  });

function one(request: LearnRequest): string {
  return learn(fixture, [request])[0] ?? '';
}

describe('add, extend, remove', () => {
  test('a slot with its expiry and namespace', () => {
    const { result, counted } = fixture.counting(() => one(add(s1, 1000, { namespaceId: 7 })));
    assert.equal(result, 'OK');
    assert.deepEqual(counted, { LEARN_ADDED: 1 });
    assert.deepEqual(slotsOf(fixture, address), [
      { selector: s1, expires: 1000, namespaceId: 7, page: 0 },
    ]);
    assert.deepEqual(slotsCounted(fixture), { 7: 1, [s1]: 1 });
  });

  test('extends, never shortens, and counts once', () => {
    one(add(s1, 1000));
    const { result, counted } = fixture.counting(() => [
      one(add(s1, 1001)),
      one(add(s1, 1001)),
      one(add(s1, 900)),
      one(add(s1, 1002)),
    ]);
    assert.deepEqual(result, ['OK', 'UNCHANGED', 'UNCHANGED', 'OK']);
    assert.deepEqual(counted, { LEARN_EXTENDED: 2 });
    assert.deepEqual(slotsOf(fixture, address), [
      { selector: s1, expires: 1002, namespaceId: 1, page: 0 },
    ]);
    assert.deepEqual(slotsCounted(fixture), { 1: 1, [s1]: 1 });
  });

  test('namespaces that name the same selector have a slot each, with an expiry of its own', () => {
    one(add(s1, 1000));
    assert.equal(one(add(s1, 900, { namespaceId: 9 })), 'OK');
    assert.deepEqual(slotsOf(fixture, address), [
      { selector: s1, expires: 1000, namespaceId: 1, page: 0 },
      { selector: s1, expires: 900, namespaceId: 9, page: 0 },
    ]);
    assert.equal(one({ op: 'REMOVE', address, selector: s1 }), 'OK', 'of all namespaces');
    assert.deepEqual(slotsOf(fixture, address), []);
  });

  test("an offer is nobody's until a namespace wants it, and extends what is there", () => {
    const offer = { isOffered: true };
    assert.equal(one(add(s1, 1000, offer)), 'OK');
    assert.equal(one(add(s1, 1000, offer)), 'UNCHANGED');
    assert.deepEqual(slotsOf(fixture, address), [
      { selector: s1, expires: 1000, namespaceId: 0, page: 0 },
    ]);
    assert.equal(one(add(s1, 900, { namespaceId: 9 })), 'OK');
    const mine = { selector: s1, expires: 1000, namespaceId: 9, page: 0 };
    assert.deepEqual(slotsOf(fixture, address), [mine], 'the longer expiry stays');
    assert.equal(one(add(s1, 1100, offer)), 'OK');
    assert.deepEqual(slotsOf(fixture, address), [{ ...mine, expires: 1100 }]);
  });

  test('expiries compare as signed differences', () => {
    one(add(s1, 0xfffffff0));
    assert.equal(one(add(s1, 0x10)), 'OK', 'later, across the wrap');
    assert.equal(one(add(s1, 0xfffffff0)), 'UNCHANGED');
  });

  test('several selectors, IPv4 and IPv6, in one batch', () => {
    const requests: LearnRequest[] = Array.from({ length: 128 }, (_, i) => ({
      op: 'ADD',
      address: i % 2 === 0 ? `198.51.100.${i}` : `2001:db8::${i.toString(16)}`,
      selector: s1 + (i % 3),
      expires: 50 + i,
      namespaceId: i,
    }));
    assert.deepEqual(new Set(learn(fixture, requests, 5)), new Set(['OK']));
    assert.equal(slotsOf(fixture, '2001:db8::7f').length, 1);
  });

  test('remove: the slot, the address with its last one, and the quota', () => {
    one(add(s1, 1000));
    one(add(s2, 1000));
    const removals = fixture.groupField('removals');
    assert.equal(one({ op: 'REMOVE', address, selector: s1 }), 'OK');
    assert.deepEqual(
      slotsOf(fixture, address).map((slot) => slot.selector),
      [s2],
    );
    assert.equal(one({ op: 'REMOVE', address, selector: s1 }), 'ABSENT');
    assert.equal(one({ op: 'REMOVE', address, selector: s2 }), 'OK');
    assert.equal([...fixture.map('fqdn').entries()].length, 0);
    assert.equal(one({ op: 'REMOVE', address, selector: s2 }), 'ABSENT');
    assert.deepEqual(slotsCounted(fixture), {});
    assert.equal(fixture.groupField('removals') - removals, 2, 'one for each run that removed');
  });

  test('remove with an expiry: what lives longer is kept, and its expiry told', () => {
    const removals = fixture.groupField('removals');
    one(add(s1, 0x10));
    const { result, counted } = fixture.counting(() =>
      one({ op: 'REMOVE', address, selector: s1, expires: 0xfffffff0 }),
    );
    assert.deepEqual([result, counted], ['KEPT', {}], 'later, across the wrap');
    const batch = new Uint8Array(fixture.map('learn_requests').mmap());
    assert.equal(fixture.structs.read('td_learn_request', batch, 'expires_s'), 0x10);
    assert.equal(slotsOf(fixture, address).length, 1);
    assert.equal(fixture.groupField('removals'), removals, 'nothing was removed');
    assert.equal(one({ op: 'REMOVE', address, selector: s1, expires: 0x10 }), 'OK');
    assert.deepEqual(slotsCounted(fixture), {});
  });
});

describe('expire', () => {
  test('what expired before the time and was not used since', () => {
    for (const [i, expires] of [100, 199, 200, 300].entries()) one(add(s1 + i, expires));
    assert.equal(one({ op: 'EXPIRE', address, expires: 200 }), 'OK');
    assert.deepEqual(
      slotsOf(fixture, address).map((slot) => slot.expires),
      [200, 300],
    );
    assert.equal(one({ op: 'EXPIRE', address, expires: 200 }), 'ABSENT');
    assert.deepEqual(slotsCounted(fixture), { 1: 2, [s1 + 2]: 1, [s1 + 3]: 1 });
    assert.equal(one({ op: 'EXPIRE', address, expires: 1000 }), 'OK');
    assert.equal([...fixture.map('fqdn').entries()].length, 0);
    assert.deepEqual(slotsCounted(fixture), {});
  });

  test('an address in use is kept', () => {
    one(add(s1, 100));
    usePage(fixture, address, 0);
    assert.equal(one({ op: 'EXPIRE', address, expires: 400 }), 'ABSENT');
    assert.equal(slotsOf(fixture, address).length, 1);
    assert.equal(one({ op: 'EXPIRE', address, expires: 501 }), 'OK');
  });

  test('all 64 of an address at once', () => {
    for (let i = 0; i < 64; i++) one(add(s1 + i, 100));
    const { counted } = fixture.counting(() => one({ op: 'EXPIRE', address, expires: 200 }));
    assert.deepEqual(counted, { LEARN_REMOVED: 64 });
    assert.equal([...fixture.map('fqdn').entries()].length, 0);
    assert.deepEqual(slotsCounted(fixture), {});
  });
});

describe('addresses that are never learned (rule 5)', () => {
  const refused: readonly (readonly [name: string, request: Partial<LearnRequest>])[] = [
    [
      'AAAA with a v4-mapped address',
      { address: mappedAddressBytes('203.0.113.10'), isAaaa: true },
    ],
    ['A with an IPv6 address', { address: addressBytes('2001:db8::1'), isAaaa: false }],
    ['unspecified IPv4', { address: '0.0.0.0' }],
    ['this network', { address: '0.1.2.3' }],
    ['loopback IPv4', { address: '127.0.0.53' }],
    ['multicast IPv4', { address: '224.0.0.251' }],
    ['reserved IPv4', { address: '240.0.0.1' }],
    ['broadcast', { address: '255.255.255.255' }],
    ['unspecified IPv6', { address: '::' }],
    ['loopback IPv6', { address: '::1' }],
    ['multicast IPv6', { address: 'ff02::1' }],
  ];
  for (const [name, request] of refused) {
    test(name, () => {
      const { result, counted } = fixture.counting(() => one(add(s1, 1000, request)));
      assert.equal(result, 'REFUSED_ADDRESS');
      assert.deepEqual(counted, { LEARN_REFUSED: 1 });
      assert.equal([...fixture.map('fqdn').entries()].length, 0);
      assert.deepEqual(slotsCounted(fixture), {});
    });
  }

  test('classes of the cluster, and what already is there may go', () => {
    one(add(s1, 1000));
    for (const flag of ['CLUSTER', 'NODE', 'SERVICE', 'LINK_LOCAL', 'LOCAL_PODS']) {
      fixture.class('203.0.113.0', 24, 10, [flag]);
      assert.equal(one(add(s2, 1000)), 'REFUSED_ADDRESS', flag);
    }
    fixture.class(address, 32, 11);
    assert.equal(one(add(s2, 1000)), 'OK', 'the longest prefix decides');
    fixture.class(address, 32, 11, ['NODE']);
    assert.equal(one({ op: 'REMOVE', address, selector: s1 }), 'OK');
  });

  test('an IPv6 address that a translator or relay leads to an IPv4 one is learned as that one is', () => {
    fixture.class('10.96.0.0', 16, 30, ['CLUSTER', 'SERVICE']);
    fixture.class('169.254.0.0', 16, 31, ['LINK_LOCAL']);
    const rows: readonly (readonly [address: string, want: string])[] = [
      ['64:ff9b::a60:a', 'REFUSED_ADDRESS'], // NAT64 of 10.96.0.10
      ['64:ff9b::a9fe:a9fe', 'REFUSED_ADDRESS'], // of 169.254.169.254
      ['64:ff9b::7f00:1', 'REFUSED_ADDRESS'], // of 127.0.0.1
      ['2002:a60:a::1', 'REFUSED_ADDRESS'], // 6to4
      ['::a60:a', 'REFUSED_ADDRESS'], // IPv4-compatible
      ['64:ff9b::c633:6401', 'OK'], // of 198.51.100.1
      ['2002:c633:6401::1', 'OK'],
      ['64:ff9b:0:1::a60:a', 'OK'], // another prefix
    ];
    for (const [text, want] of rows) {
      assert.equal(one(add(s1, 1000, { address: text })), want, text);
    }
  });

  test('requests that mean nothing', () => {
    assert.equal(one(add(5, 1000)), 'REFUSED_REQUEST', 'a class id is no selector');
    assert.equal(one(add(0, 1000)), 'REFUSED_REQUEST');
    assert.equal(one({ op: 'REMOVE', address, selector: 5 }), 'REFUSED_REQUEST');
    assert.equal(one({ op: 0, address, selector: s1 }), 'REFUSED_REQUEST');
    assert.equal(one({ op: 4, address, selector: s1 }), 'REFUSED_REQUEST');
  });

  test('a run with a wrong writer or count does nothing', () => {
    for (const args of [
      { writer: 8, count: 1 },
      { writer: 0, count: 129 },
    ]) {
      const bytes = fixture.structs.bytes('td_learn_args', args);
      assert.equal(fixture.object.program('learn').runSyscall(bytes), -22);
    }
  });
});

describe('places of an address', () => {
  const fill = (namespaceId: number, count: number, base = s1 + namespaceId * 100): void => {
    for (let i = 0; i < count; i++) {
      assert.equal(one(add(base + i, 1000, { namespaceId })), 'OK');
    }
  };
  const have = (): Record<number, number> => {
    const by: Record<number, number> = {};
    for (const { namespaceId } of storedSlots(fixture, address)) {
      by[namespaceId] = (by[namespaceId] ?? 0) + 1;
    }
    return by;
  };

  test('who has most gives what it touched longest ago', () => {
    fill(1, 64);
    one(add(s1 + 100, 1000));
    fill(2, 30);
    assert.deepEqual(have(), { 1: 34, 2: 30 });
    fill(3, 30);
    assert.deepEqual(have(), { 1: 22, 2: 21, 3: 21 });
    const left = storedSlots(fixture, address).map(({ selector }) => selector);
    assert.ok(left.includes(s1 + 100) && !left.includes(s1 + 101), 'the oldest went');
    const order = new OrderState(fixture);
    const told = [1, 2, 3].map((id) => {
      const { yielded = 0, replaced = 0, refused = 0 } = order.ofNamespace(id) ?? {};
      return { yielded, replaced, refused };
    });
    assert.deepEqual(
      told,
      [
        { yielded: 42, replaced: 0, refused: 0 },
        { yielded: 9, replaced: 0, refused: 0 },
        { yielded: 0, replaced: 9, refused: 0 },
      ],
      'each namespace is told what it gave',
    );
    const yielded = slotsCounted(fixture);
    assert.equal((yielded[1] ?? 0) + (yielded[2] ?? 0) + (yielded[3] ?? 0), 64);
  });

  test('eight namespaces have eight places each, and a ninth is let in', () => {
    for (let n = 1; n <= 8; n++) fill(n, 64);
    assert.deepEqual(new Set(Object.values(have())), new Set([8]));
    fill(9, 64);
    assert.ok((have()[9] ?? 0) >= 7, JSON.stringify(have()));
  });

  test('offers give first, and take nothing', () => {
    fill(1, 60);
    for (let i = 0; i < 4; i++) one(add(s1 + 9000 + i, 1000, { isOffered: true }));
    assert.equal(one(add(s1 + 9900, 1000, { isOffered: true })), 'REFUSED_SELECTORS');
    const offers = (): unknown => {
      const { yielded, refused } = new OrderState(fixture).spaces[0] ?? {};
      return { yielded, refused };
    };
    assert.deepEqual(offers(), { yielded: 0, refused: 1 });
    fill(2, 4);
    assert.deepEqual(have(), { 1: 60, 2: 4 });
    assert.deepEqual(offers(), { yielded: 4, refused: 1 });
  });

  test("slots of the version before give first, and become the namespace's that asks", () => {
    const legacy = 0x7000_0001;
    fill(1, 64);
    const key = fixture.structs.bytes('td_fqdn_key', { addr: mappedAddressBytes(address) });
    const page = fixture.map('fqdn').lookup(key);
    assert.ok(page !== null);
    fixture.reset();
    const at = fixture.structs.layout('td_fqdn').fields.get('slot')?.offset ?? 0;
    const words = new DataView(page.buffer, page.byteOffset);
    for (let i = 0; i < 16; i++) words.setUint32(at + 12 * i + 8, legacy, true);
    fixture.map('fqdn').update(key, page);
    // It counted them, by namespace and by selector.
    const counts = Array.from({ length: 16 }, (_, i) => [s1 + 100 + i, 1] as const);
    for (const [id, used] of [...counts, [legacy, 16] as const]) {
      const bytes = fixture.structs.bytes('td_quota', { used, limit: 100 });
      fixture.map('quotas').update(new Uint8Array(Uint32Array.of(id).buffer), bytes);
    }
    assert.equal(one(add(s1 + 100, 900, { namespaceId: 5 })), 'OK');
    const taken = storedSlots(fixture, address).filter(({ namespaceId }) => namespaceId === 5);
    assert.deepEqual(
      taken.map(({ selector, expires }) => [selector, expires]),
      [[s1 + 100, 1000]],
      'in place, with its expiry',
    );
    assert.equal(storedSlots(fixture, address).length, 16);
    assert.equal(one({ op: 'EXPIRE', address, expires: 2000 }), 'OK');
    assert.equal(storedSlots(fixture, address).length, 0);
  });
});

describe('shares of the map (rule 17)', () => {
  const other = (i: number): string => `198.51.${100 + (i >> 8)}.${i & 255}`;

  test('a namespace at its limit replaces its own oldest, and nothing of others', () => {
    one(add(s1, 1000, { namespaceId: 2 }));
    for (let i = 0; i < quota.namespace; i++) {
      assert.equal(one(add(s1 + (i % 50), 1000, { address: other(i) })), 'OK');
    }
    one(add(s1, 1000, { address: other(0) }));
    const removals = fixture.groupField('removals');
    assert.equal(one(add(s1, 1000, { address: other(200) })), 'OK');
    assert.equal(fixture.groupField('removals') - removals, 1, 'members are told');
    assert.equal(slotsOf(fixture, other(0)).length, 1, 'touched again');
    assert.equal(slotsOf(fixture, other(1)).length, 0, 'the oldest');
    assert.equal(slotsCounted(fixture)[1], quota.namespace);
    assert.equal(slotsOf(fixture, address).length, 1, "another namespace's stays");
  });

  test('a limit of its own', () => {
    setShare(fixture, 9, 0, 2);
    const results = [1, 2, 3].map((i) => one(add(s1, 1000, { address: other(i), namespaceId: 9 })));
    assert.deepEqual(results, ['OK', 'OK', 'OK']);
    assert.equal(slotsCounted(fixture)[9], 2);
    setShare(fixture, 9, 0, 0);
    assert.equal(one(add(s1, 1000, { address: other(4), namespaceId: 9 })), 'OK', 'still replaces');
    for (const i of [3, 4]) one({ op: 'REMOVE', address: other(i), selector: s1 });
    setShare(fixture, 9, 0, 0);
    assert.equal(new OrderState(fixture).ofNamespace(9), undefined, 'forgotten');
  });

  test('an address in use stays, and the next oldest goes', () => {
    setShare(fixture, 1, 0, 3);
    for (let i = 0; i < 3; i++) one(add(s1, 1000, { address: other(i) }));
    const now = Number(process.hrtime.bigint() / 1_000_000_000n);
    const addr = mappedAddressBytes(other(0));
    const words = new Uint32Array(addr.slice().buffer);
    const check = (words.reduce((sum, word) => sum ^ word, 0) ^ s1) >>> 0;
    fixture
      .map('fqdn_live')
      .update(
        fixture.structs.bytes('td_fqdn_live_key', { addr, selector: s1 }),
        fixture.structs.bytes('td_fqdn_live', { until_s: now + 50, check }),
      );
    assert.equal(one(add(s1, 1000, { address: other(3) })), 'OK');
    assert.deepEqual(
      [0, 1, 2, 3].map((i) => slotsOf(fixture, other(i)).length),
      [1, 0, 1, 1],
    );
    assert.equal(new OrderState(fixture).ofNamespace(1)?.replaced, 1);
  });

  test('eight namespaces hold the whole map; a ninth has its share at once', () => {
    using small = new Fixture({ fqdn: 1024 }, true, { pairs: 1023 });
    const put = (namespaceId: number, from: number, count: number): string[] =>
      Array.from({ length: count }, (_, i) => other(from + i)).flatMap((text) =>
        learn(small, [add(s1, 1000, { address: text, namespaceId })]),
      );
    for (let n = 1; n <= 8; n++) setShare(small, n, 113, 1023);
    for (let n = 1; n <= 8; n++) put(n, n * 1000, 200);
    setShare(small, 9, 113, 1023);
    assert.deepEqual(new Set(put(9, 9000, 113)), new Set(['OK']));
    const kept = new OrderState(small).namesOf(9);
    for (let n = 1; n <= 8; n++) put(n, n * 1000 + 500, 300);
    const after9 = new OrderState(small);
    assert.deepEqual(after9.namesOf(9), kept, 'all of it stays');
    for (let n = 1; n <= 8; n++) assert.ok((after9.ofNamespace(n)?.used ?? 0) >= 113);
    assertWhole(small);
  });

  test('addresses with many pages take no room of first pages', () => {
    const many = 30;
    const places = 96;
    const share = places / 2;
    using small = new Fixture({ fqdn: 128 }, true, { pairs: places, extra_pages: many });
    const put = (text: string, selector: number, namespaceId: number): string =>
      learn(small, [add(selector, 1000, { address: text, namespaceId })])[0] ?? '';
    for (const n of [1, 2]) setShare(small, n, share, places);
    // 49 selectors of an address take four pages; when all but the last of them go, so do three pages.
    for (let i = 0; i < 80; i++) {
      for (let s = 0; s < 49; s++) put(other(i), s1 + s, 1);
      for (let s = 0; s < 48; s++) {
        learn(small, [{ op: 'REMOVE', address: other(i), selector: s1 + s }]);
      }
    }
    assert.equal(new OrderState(small).extraPages, 0);
    for (let i = 0; i < share; i++) assert.equal(put(other(1000 + i), s2, 2), 'OK', `${i}`);
    assert.equal(slotsCounted(small)[2], share);
    assertWhole(small);
  });

  test('offers fill only what is free, and give first', () => {
    using small = new Fixture({ fqdn: 64 }, true, { pairs: 63 });
    const put = (from: number, count: number, more: Partial<LearnRequest>): string[] =>
      Array.from({ length: count }, (_, i) => other(from + i)).flatMap((text) =>
        learn(small, [add(s1, 1000, { address: text, ...more })]),
      );
    put(0, 10, { namespaceId: 1 });
    put(100, 80, { isOffered: true });
    assert.equal(slotsCounted(small)[1], 10);
    assert.equal(slotsCounted(small)[0], 53);
    put(300, 53, { namespaceId: 2 });
    assert.deepEqual(slotsCounted(small), { 1: 10, 2: 53, [s1]: 63 });
    assert.deepEqual(put(500, 1, { isOffered: true }), ['REFUSED_NAMESPACE']);
    assertWhole(small);
  });
});
