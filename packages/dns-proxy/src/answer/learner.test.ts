// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Quotas: who makes room for whom, with the kernel's own `fqdn` map. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AcceptSet } from '@tandem/core/dns/matcher';
import { ReplyView } from '@tandem/core/dns/reply';
import type { NamespaceId, PolicyId } from '@tandem/core/ids';
import { TD_MEMBERS_MAX, tdFqdn, tdFqdnKey, tdLearnOp } from '@tandem/datapath/abi.gen';
import { type KernelMaps, loadKernelMaps } from '../../test/kernel-maps.ts';
import { address } from '../../test/records.ts';
import { selectorsOf } from '../admin/kernel-view.ts';
import { counter, createSharedCounters } from '../counters.ts';
import { learnPairsPerSecondMax } from '../limits.ts';
import type { PolicyTables } from '../policy/tables.ts';
import { KernelWriter } from './kernel-writer.ts';
import { Learner } from './learner.ts';

const selector = 0x8000_0001;
const namespaceId = 3;
const quota = 512;
const hot = ['203.0.113.1', '203.0.113.2', '203.0.113.3'];
const ttl = 60;

interface Asked {
  readonly nameHash?: number;
  readonly isTrusted?: boolean;
  readonly policyId?: number;
  readonly ttlSeconds?: number;
}

/** Member `index`, as its DNS worker learns. */
class Member {
  readonly counters: Float64Array = createSharedCounters();
  readonly #learner: Learner;
  readonly #reply = new ReplyView({ low: 1, high: 2 });

  constructor(kernel: KernelMaps, index: number, group: { removals: number }) {
    this.#learner = new Learner({
      writer: new KernelWriter(kernel.map('learn_requests'), kernel.program('learn'), index),
      counters: this.counters,
      graceSeconds: 8,
      ttlSecondsMin: 0,
      seed: 7,
      group,
    });
  }

  /** An answer at `nowSeconds`: it counts once the batch is written. */
  answer(text: string, nowSeconds: number): void {
    this.answers([text], nowSeconds);
  }

  answers(
    texts: readonly string[],
    nowSeconds: number,
    namespace: number = namespaceId,
    select: PolicyTables['selectorsOf'] = selectOne,
    { nameHash = 1, isTrusted = true, policyId = 1, ttlSeconds = ttl }: Asked = {},
  ): number {
    const reply = this.#reply;
    reply.addressCount = texts.length;
    reply.ttls.fill(ttlSeconds);
    reply.types.fill(1);
    const tables = { selectorsOf: select };
    const words = new Uint32Array(
      texts.flatMap((text) => [...new Uint32Array(address(text).buffer)]),
    );
    this.#learner.begin();
    const changed = this.#learner.collect(
      ...([nameHash, reply, words, tables, 1 as AcceptSet, isTrusted] as const),
      policyId as PolicyId,
      namespace as NamespaceId,
      nowSeconds,
    );
    this.#learner.flush();
    return changed;
  }

  forgetNames(): void {
    this.#learner.forgetNames();
  }

  count(name: keyof typeof counter): number {
    return this.counters[counter[name]]!;
  }
}

function selectOne(
  _set: number,
  _trusted: boolean,
  _policy: number,
  _namespace: number,
  into: Uint32Array,
): number {
  into[0] = selector;
  return 1;
}

/** The selector, and as many that only policies of other namespaces name as there is room for. */
const selectOffersToo: PolicyTables['selectorsOf'] = (
  _set,
  _trusted,
  _policy,
  _namespace,
  into,
  offered,
) => {
  for (let i = 0; i < into.length; i++) {
    into[i] = selector + i;
    offered[i] = i === 0 ? 0 : 1;
  }
  return into.length;
};

function isThere(kernel: KernelMaps, text: string): boolean {
  return selectorsOf(kernel.fqdn, address(text), 9).includes(selector);
}

/** Removes what expired before `seconds`, as the sweeper does. */
function expire({ writer }: KernelMaps, text: string, seconds: number): void {
  const words = new Uint32Array(address(text).buffer);
  writer.add(tdLearnOp.EXPIRE, words, 0, 0, seconds, 0, false);
  writer.run();
  writer.count = 0;
}

const fresh = (n: number): string => `198.51.${n >> 8}.${n & 255}`;

test('names asked again and again outlive those asked once, whichever member answers them', () => {
  using kernel = loadKernelMaps(quota);
  const group = { removals: 0 };
  const members = [0, 1].map((index) => new Member(kernel, index, group)) as [Member, Member];
  let now = 1000;
  for (const text of hot) members[0].answer(text, now);
  for (let n = 0; n < 4 * quota; n++) {
    now += 1;
    members[0].answer(fresh(n), now);
    assert.ok(isThere(kernel, fresh(n)), `${n}: what is new is learned`);
    // The other member answers the hot names: only the kernel's expiries tell of that.
    if (n % 20 === 0) for (const text of hot) members[1].answer(text, now);
    for (const text of hot) assert.ok(isThere(kernel, text), `${n}: ${text}`);
  }
  assert.ok(members[0].count('learnEvicted') > 0);
  assert.equal(members[0].count('learnRefusedQuota'), 0);
});

test('what is remembered of an address that expired does not evict what came for it later', () => {
  using kernel = loadKernelMaps(quota);
  const group = { removals: 0 };
  const members = [0, 1].map((index) => new Member(kernel, index, group)) as [Member, Member];
  const first = 600;
  for (let n = 0; n < first; n++) members[0].answer(fresh(n), 1000);
  // All of it expires and goes; some addresses are answered again, and the others' places are taken.
  const later = Array.from({ length: 12 }, (_, i) => fresh(first - 200 - i));
  for (let n = 0; n < first; n++) expire(kernel, fresh(n), 1100);
  for (let n = 0; n < quota - later.length; n++) members[1].answer(fresh(1000 + n), 1150);
  for (const text of later) members[1].answer(text, 1200);
  members[0].answer(hot[0] as string, 1201);
  assert.ok(isThere(kernel, hot[0] as string));
  for (const text of later) assert.ok(isThere(kernel, text), text);
});

test('when all were answered again, the oldest makes room all the same', () => {
  using kernel = loadKernelMaps(quota);
  const member = new Member(kernel, TD_MEMBERS_MAX - 1, { removals: 0 });
  for (let n = 0; n < quota; n++) member.answer(fresh(n), 1000);
  for (let n = 0; n < quota; n++) member.answer(fresh(n), 1030);
  member.answer(hot[0] as string, 1030);
  assert.ok(isThere(kernel, hot[0] as string));
  assert.equal(member.count('learnRefusedQuota'), 0);
  const left = Array.from({ length: quota }, (_, n) => fresh(n)).filter((text) =>
    isThere(kernel, text),
  );
  assert.equal(left.length, quota - 1, 'one made room for one');
  assert.ok(!isThere(kernel, fresh(0)), 'the one that was answered longest ago');
});

test('large answers to one namespace teach a bounded number of addresses a second', () => {
  using kernel = loadKernelMaps(quota);
  const member = new Member(kernel, 0, { removals: 0 });
  const large = 250;
  let asked = 0;
  for (; asked < 2 * learnPairsPerSecondMax; asked += large) {
    member.answers(
      Array.from({ length: large }, (_, n) => fresh(asked + n)),
      1000,
    );
  }
  const learned = asked - member.count('learnRefusedRate');
  // Pairs with selectors and with the name are counted.
  assert.ok(learned > quota && learned <= learnPairsPerSecondMax / 2 + large, `${learned}`);
  const [ordinary, later, other] = hot as [string, string, string];
  member.answer(ordinary, 1000);
  assert.ok(isThere(kernel, ordinary), 'an ordinary answer is learned');
  const many = [other, ...Array.from({ length: 40 }, (_, n) => fresh(40_000 + n))];
  member.answers(many, 1000, namespaceId + 1);
  assert.ok(isThere(kernel, other), 'and a large one of another namespace');
  member.answers([later, ...many], 1001);
  assert.ok(isThere(kernel, later), 'in the next second a large one of the same namespace, too');
});

test('patterns of other namespaces make no answer a large one, and what they cost has a bound of its own', () => {
  using kernel = loadKernelMaps(quota);
  const member = new Member(kernel, 0, { removals: 0 });
  const asked = 100;
  for (let n = 0; n < asked; n++) member.answers([fresh(n)], 1000, namespaceId, selectOffersToo);
  for (let n = 0; n < asked; n++) assert.ok(isThere(kernel, fresh(n)), fresh(n));
  assert.equal(member.count('learnRefusedRate'), 0);
  assert.ok(member.count('learnRefusedOffers') > 0);
  assert.equal(member.count('learnRefusedSelectors'), asked, 'each had one selector too many');
  const offered = selectorsOf(kernel.fqdn, address(fresh(asked - 1)), 64);
  assert.deepEqual(offered, [selector], 'over the bound nothing is offered');
});

test('what the name caches did not get is taught again by the next answer', () => {
  using kernel = loadKernelMaps(quota);
  const member = new Member(kernel, 0, { removals: 0 });
  const taught = (nowSeconds: number): number => member.answers([fresh(1)], nowSeconds);
  assert.deepEqual([taught(1000), taught(1000)], [2, 0]);
  member.forgetNames();
  assert.deepEqual([taught(1000), taught(1000)], [1, 0]);
  member.forgetNames();
  assert.equal(taught(1000), 0, 'once a second');
  assert.deepEqual([taught(1001), taught(1001)], [1, 0]);
});

test('the name caches get an address for each namespace and scope in which it was answered', () => {
  using kernel = loadKernelMaps(quota);
  const member = new Member(kernel, 0, { removals: 0 });
  const taught = (namespace: number, asked: Asked): number =>
    member.answers([fresh(1)], 1000, namespace, selectOffersOnly, { nameHash: 2, ...asked });
  // The pair with the selector is known: only the name is news.
  assert.equal(taught(namespaceId, { nameHash: 1 }), 2);
  const own = { isTrusted: false };
  assert.deepEqual([taught(namespaceId, own), taught(namespaceId, own)], [1, 0]);
  assert.deepEqual([taught(namespaceId, {}), taught(namespaceId, {})], [1, 0], 'the resolver');
  assert.deepEqual([taught(4, {}), taught(4, {})], [1, 0], 'another namespace');
  const other = { ...own, policyId: 2 };
  assert.deepEqual([taught(namespaceId, other), taught(namespaceId, other)], [1, 0]);
});

test('an address that was refused is written again after a while, though its expiry did not move', () => {
  using kernel = loadKernelMaps(quota);
  const member = new Member(kernel, 0, { removals: 0 });
  const end = 5000;
  const refusedAt = (nowSeconds: number): number => {
    const asked = { ttlSeconds: end - nowSeconds };
    member.answers(['127.0.0.1'], nowSeconds, namespaceId, selectOne, asked);
    return member.count('learnRefusedAddress');
  };
  const times = [1000, 1001, 1059, 1060, 1061, 1119, 1120];
  assert.deepEqual(times.map(refusedAt), [1, 1, 1, 2, 2, 2, 3]);
});

test('of large answers that no selector wants the name caches get a bounded number of addresses a second', () => {
  using kernel = loadKernelMaps(quota);
  const member = new Member(kernel, 0, { removals: 0 });
  const large = 256;
  const answer = (count: number, nowSeconds: number): number => {
    const texts = Array.from({ length: count }, (_, n) => fresh(n));
    return member.answers(texts, nowSeconds, namespaceId, () => 0);
  };
  for (let n = 0; n < learnPairsPerSecondMax; n += large) assert.equal(answer(large, 1000), -1);
  assert.equal(answer(large, 1000), 0);
  assert.equal(member.count('learnRefusedRate'), large);
  assert.equal(answer(16, 1000), -1, 'an ordinary one is remembered');
  assert.equal(answer(large, 1001), -1, 'in the next second a large one, too');
});

test('an address that another writer is removing is busy, and learned by the next answer', () => {
  using kernel = loadKernelMaps(quota);
  const { fqdn } = kernel;
  const member = new Member(kernel, 0, { removals: 0 });
  const [text] = hot as [string];
  member.answer(text, 1000);
  // A writer that waits for a CPU before it deletes the page that it has marked.
  const key = new Uint8Array(tdFqdnKey.size);
  key.set(address(text), tdFqdnKey.addr);
  const page = fqdn.lookup(key) as Uint8Array;
  new DataView(page.buffer, page.byteOffset).setUint32(tdFqdn.dead, 1, true);
  fqdn.update(key, page);
  member.answer(text, 1030);
  assert.equal(member.count('learnRefusedBusy'), 1);
  assert.equal(member.count('learnRefusedQuota'), 0);
  fqdn.delete(key);
  member.answer(text, 1030);
  assert.ok(isThere(kernel, text));
  assert.equal(member.count('learnRefusedBusy'), 1);
});

const selectOffersOnly: PolicyTables['selectorsOf'] = (...args) => {
  const [, , , , into, offered] = args;
  into[0] = selector;
  offered[0] = 1;
  return 1;
};

for (const [which, select] of Object.entries({ own: selectOne, offered: selectOffersOnly })) {
  test(`an answer with one new address counts with all that it gives the name caches (${which} pattern)`, () => {
    using kernel = loadKernelMaps(quota);
    const member = new Member(kernel, 0, { removals: 0 });
    const same = Array.from({ length: 255 }, (_, n) => fresh(n));
    const ask = (n: number): number =>
      member.answers([...same, fresh(1000 + n)], 1000, namespaceId, select);
    let taught = 0;
    while (taught < 100 && ask(taught) > 0) taught += 1;
    assert.ok(taught <= learnPairsPerSecondMax / 256, `${taught} answers of 256 addresses`);
    assert.ok(member.count('learnRefusedRate') > 0);
  });
}
