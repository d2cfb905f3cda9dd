// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** learn: what it takes, refuses and counts. Safety rules 5 and 17. Concurrency: learn.concurrent.test.ts. */

import assert from 'node:assert/strict';
import { after, beforeEach, describe, test } from 'node:test';
import { addressBytes, mappedAddressBytes } from '@tandem/testing/address';
import { Fixture, quota } from './fixture.ts';
import { type LearnRequest, learn } from './learning.ts';
import { quotasUsed, slotsOf } from './stored.ts';

const fixture = new Fixture();
after(() => fixture[Symbol.dispose]());
beforeEach(() => fixture.reset());

const address = '203.0.113.10';
const s1 = 0x80000001;
const s2 = 0x80000002;

function add(selector: number, expires: number, more: Partial<LearnRequest> = {}): LearnRequest {
  return { op: 'ADD', address, selector, expires, ...more };
}

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
    assert.deepEqual(quotasUsed(fixture), { 7: 1, [s1]: 1 });
  });

  test('extends, never shortens, and counts once', () => {
    one(add(s1, 1000));
    const { result, counted } = fixture.counting(() => [
      one(add(s1, 1001)),
      one(add(s1, 1001)),
      one(add(s1, 900)),
      one(add(s1, 1002, { namespaceId: 9 })),
    ]);
    assert.deepEqual(result, ['OK', 'UNCHANGED', 'UNCHANGED', 'OK']);
    assert.deepEqual(counted, { LEARN_EXTENDED: 2 });
    assert.deepEqual(slotsOf(fixture, address), [
      { selector: s1, expires: 1002, namespaceId: 1, page: 0 },
    ]);
    assert.deepEqual(quotasUsed(fixture), { 1: 1, [s1]: 1 });
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
    assert.deepEqual(quotasUsed(fixture), {});
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
    assert.deepEqual(quotasUsed(fixture), {});
  });
});

describe('pages', () => {
  const fill = (count: number): void => {
    for (let i = 0; i < count; i++) assert.equal(one(add(s1 + i, 1000, { namespaceId: i })), 'OK');
  };

  test('64 selectors of one address on four pages, no 65th', () => {
    fill(64);
    assert.deepEqual(
      [...new Set(slotsOf(fixture, address).map((slot) => slot.page))],
      [0, 1, 2, 3],
    );
    const { result, counted } = fixture.counting(() =>
      one(add(s1 + 64, 1000, { namespaceId: 77 })),
    );
    assert.equal(result, 'REFUSED_SELECTORS');
    assert.deepEqual(counted, { LEARN_REFUSED: 1 });
    assert.equal(quotasUsed(fixture)[77], undefined, 'nothing is left counted');
    assert.equal(quotasUsed(fixture)[s1 + 64], undefined);
    assert.equal(one(add(s1 + 63, 2000)), 'OK', 'what is there extends');
  });

  test('a freed slot is used again before another page', () => {
    fill(17);
    one({ op: 'REMOVE', address, selector: s1 + 3 });
    assert.equal(one(add(s2 + 100, 1000)), 'OK');
    assert.equal(slotsOf(fixture, address).find((slot) => slot.selector === s2 + 100)?.page, 0);
  });

  test('pages stay while a slot is left, then all go', () => {
    fill(40);
    for (let i = 0; i < 39; i++) one({ op: 'REMOVE', address, selector: s1 + i });
    assert.equal([...fixture.map('fqdn').entries()].length, 3);
    one({ op: 'REMOVE', address, selector: s1 + 39 });
    assert.equal([...fixture.map('fqdn').entries()].length, 0);
    fill(20);
    assert.equal(slotsOf(fixture, address).length, 20);
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
    assert.deepEqual(quotasUsed(fixture), { 1: 2, [s1 + 2]: 1, [s1 + 3]: 1 });
    assert.equal(one({ op: 'EXPIRE', address, expires: 1000 }), 'OK');
    assert.equal([...fixture.map('fqdn').entries()].length, 0);
    assert.deepEqual(quotasUsed(fixture), {});
  });

  test('an address in use is kept', () => {
    one(add(s1, 100));
    const key = fixture.structs.bytes('td_fqdn_key', { addr: mappedAddressBytes(address) });
    const page = fixture.map('fqdn').lookup(key);
    assert.ok(page !== null);
    fixture.structs.write('td_fqdn', page, 'last_used_ns', 500n * 1_000_000_000n);
    fixture.map('fqdn').update(key, page);
    assert.equal(one({ op: 'EXPIRE', address, expires: 400 }), 'ABSENT');
    assert.equal(slotsOf(fixture, address).length, 1);
    assert.equal(one({ op: 'EXPIRE', address, expires: 501 }), 'OK');
  });

  test('all 64 of an address at once', () => {
    for (let i = 0; i < 64; i++) one(add(s1 + i, 100));
    const { counted } = fixture.counting(() => one({ op: 'EXPIRE', address, expires: 200 }));
    assert.deepEqual(counted, { LEARN_REMOVED: 64 });
    assert.equal([...fixture.map('fqdn').entries()].length, 0);
    assert.deepEqual(quotasUsed(fixture), {});
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
      assert.deepEqual(quotasUsed(fixture), {});
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

describe('quotas (rule 17)', () => {
  test('of a namespace: refused, counted, nobody evicted', () => {
    for (let i = 0; i < quota.namespace; i++) {
      assert.equal(one(add(s1 + (i % 50), 1000, { address: `198.51.100.${i}` })), 'OK');
    }
    assert.equal(one(add(s1, 1000, { address: '198.51.100.200' })), 'REFUSED_NAMESPACE');
    assert.equal(one(add(s1, 1000, { address: '198.51.100.200', namespaceId: 2 })), 'OK');
    assert.equal(one(add(s1, 2000, { address: '198.51.100.0' })), 'OK', 'extending needs no quota');
    assert.equal(quotasUsed(fixture)[1], quota.namespace);
    assert.equal(quotasUsed(fixture, 'refused')[1], 1);
    assert.equal(one({ op: 'REMOVE', address: '198.51.100.0', selector: s1 }), 'OK');
    assert.equal(one(add(s1, 1000, { address: '198.51.100.201' })), 'OK', 'what is freed is free');
    assert.equal([...fixture.map('fqdn').entries()].length, quota.namespace + 1, 'no empty pages');
  });

  test('of a selector, without a place kept in the namespace', () => {
    for (let i = 0; i < quota.selector; i++) {
      assert.equal(one(add(s1, 1000, { address: `198.51.100.${i}` })), 'OK');
    }
    assert.equal(one(add(s1, 1000, { address: '198.51.100.200' })), 'REFUSED_SELECTOR');
    assert.deepEqual(quotasUsed(fixture), { 1: quota.selector, [s1]: quota.selector });
    assert.equal(one(add(s2, 1000, { address: '198.51.100.200' })), 'OK');
  });

  test('of a selector that others filled: a namespace has an eighth of its own quota there', () => {
    for (let i = 0; i < quota.selector; i++) {
      assert.equal(one(add(s1, 1000, { address: `198.51.100.${i}` })), 'OK');
    }
    const reserve = quota.namespace >> 3;
    for (let i = 0; i < reserve; i++) {
      const other = `198.51.101.${i}`;
      assert.equal(one(add(s1, 1000, { address: other, namespaceId: 2 })), 'OK', `${i}`);
    }
    const over = add(s1, 1000, { address: '198.51.101.200', namespaceId: 2 });
    assert.equal(one(over), 'REFUSED_SELECTOR');
    const used = { 1: quota.selector, 2: reserve, [s1]: quota.selector + reserve };
    assert.deepEqual(quotasUsed(fixture), used);
    for (let i = 0; i < reserve; i++) {
      one({ op: 'REMOVE', address: `198.51.101.${i}`, selector: s1 });
    }
    assert.deepEqual(quotasUsed(fixture), { 1: quota.selector, [s1]: quota.selector });
  });

  test('a limit of its own', () => {
    const key = new Uint8Array(4);
    key[0] = 9;
    fixture.map('quotas').update(key, fixture.structs.bytes('td_quota', { limit: 2 }));
    const results = [1, 2, 3].map((i) =>
      one(add(s1, 1000, { address: `198.51.100.${i}`, namespaceId: 9 })),
    );
    assert.deepEqual(results, ['OK', 'OK', 'REFUSED_NAMESPACE']);
  });

  test('no room for addresses: refused, and nothing is left counted', () => {
    using small = new Fixture({ fqdn: 16 });
    const results = Array.from({ length: 24 }, (_, i) =>
      learn(small, [add(s1, 1000, { address: `198.51.100.${i}` })]),
    ).flat();
    assert.deepEqual(
      results.slice(0, 16),
      Array.from({ length: 16 }, () => 'OK'),
    );
    assert.deepEqual(
      results.slice(16),
      Array.from({ length: 8 }, () => 'REFUSED_FULL'),
    );
    assert.deepEqual(quotasUsed(small), { 1: 16, [s1]: 16 });
    assert.deepEqual(learn(small, [add(s2, 1000, { address: '198.51.100.0' })]), ['OK']);
  });

  test('no room for quotas: refused, and nothing is left counted', () => {
    const used = new Set<string>();
    const counts: Record<string, number> = {};
    // 512 quotas: each address brings a namespace of its own
    for (let i = 0; i < 600; i++) {
      const result = one(
        add(s1 + (i % 10), 1000, { address: `198.51.${i >> 8}.${i & 255}`, namespaceId: 1000 + i }),
      );
      used.add(result);
      counts[result] = (counts[result] ?? 0) + 1;
    }
    assert.deepEqual(used, new Set(['OK', 'REFUSED_FULL']));
    const slots = [...fixture.map('fqdn').entries()].length;
    assert.equal(slots, counts['OK']);
    const total = Object.entries(quotasUsed(fixture))
      .filter(([key]) => Number(key) >= 0x80000000)
      .reduce((sum, [, n]) => sum + n, 0);
    assert.equal(total, slots);
  });
});
