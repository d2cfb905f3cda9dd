// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * judge: a hint (fqdn_hint.h) or a denial (fqdn_denial.h) saves a search and never changes a verdict. Addresses are learned and
 * forgotten, by this version and by one that counts no fills, policy changes, hints are torn, of the right question and of others;
 * each verdict is that of a model without hints and denials.
 */

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { mappedAddressBytes } from '@tandem/testing/address';
import * as fc from 'fast-check';
import { Fixture } from './fixture.ts';
import {
  a4,
  a6,
  addRule,
  confirmed,
  conntrack,
  expectVerdict,
  seenFromA,
  setUpJudge,
  tcp,
  vethA,
} from './judge-world.ts';
import { learn, learnUntold } from './learning.ts';

const fixture = new Fixture();
after(() => fixture[Symbol.dispose]());

const addresses = ['203.0.113.10', '203.0.113.11', '2001:db8::10'] as const;
const ports = [443, 80] as const;
const selectors = Array.from({ length: 12 }, (_, i) => (0x80000001 + i) >>> 0);
const namespaces = 4;
const slots = 64;
const hints = 8192n;

type Address = (typeof addresses)[number];
type Step =
  | {
      kind: 'add';
      address: Address;
      selector: number;
      namespaceId: number;
      isPast: boolean;
      isUntold: boolean;
    }
  | { kind: 'remove'; address: Address; selector: number }
  | { kind: 'rule'; selector: number; port: number; isAllowed: boolean }
  | { kind: 'spoil'; address: Address; port: number; slot: number; isOther: boolean }
  | { kind: 'ask'; address: Address; port: number; isNew: boolean };

const now = (): number => Number(process.hrtime.bigint() / 1_000_000_000n);

/** hint_hash() of policy 1 over TCP: where the hint is, and its word for a slot. */
function hintOf(address: string, port: number): { index: number; word: (slot: number) => number } {
  const mapped = mappedAddressBytes(address);
  const view = new DataView(mapped.buffer, mapped.byteOffset);
  const [a, b, c, d] = [0, 4, 8, 12].map((at) => BigInt(view.getUint32(at, true)));
  const u64 = (value: bigint): bigint => BigInt.asUintN(64, value);
  const high = ((a ?? 0n) << 32n) | (b ?? 0n);
  const low = ((c ?? 0n) << 32n) | (d ?? 0n);
  const portBe = BigInt(((port & 0xff) << 8) | (port >> 8));
  const asked = (1n << 32n) | (6n << 16n) | portBe;
  let hash = u64((low ^ u64(asked * 0x9e3779b97f4a7c15n)) * 0xc2b2ae3d27d4eb4fn);
  hash = u64((hash ^ (hash >> 29n) ^ high) * 0x165667b19e3779f9n);
  const tag = Number((hash >> 19n) & 0xffffff80n) + 64;
  return { index: Number((hash >> 51n) & (hints - 1n)), word: (slot) => (tag + slot) >>> 0 };
}

const bytesOf = (value: number): Uint8Array => {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
};
const readHint = (address: string, port: number): number => {
  const value = fixture.map('fqdn_hints').lookup(bytesOf(hintOf(address, port).index));
  assert.ok(value !== null);
  return new DataView(value.buffer, value.byteOffset).getUint32(0, true);
};

/** Slots of the model: whether a pair has one that has not expired. */
class World {
  readonly #slots = new Map<string, Map<string, boolean>>();
  readonly #allowed = new Set<string>();

  apply(step: Step): void {
    if (step.kind === 'add') {
      const { address, selector, namespaceId, isPast, isUntold } = step;
      const expires = isPast ? now() - 100 : now() + 1000;
      const run = isUntold ? learnUntold : learn;
      run(fixture, [{ op: 'ADD', address, selector, expires, namespaceId }]);
      const slotsOf = this.#slots.get(`${address} ${selector}`) ?? new Map<string, boolean>();
      const isAlive = slotsOf.get(String(namespaceId)) === true || !isPast;
      slotsOf.set(String(namespaceId), isAlive);
      this.#slots.set(`${address} ${selector}`, slotsOf);
    } else if (step.kind === 'remove') {
      const { address, selector } = step;
      learn(fixture, [{ op: 'REMOVE', address, selector }]);
      this.#slots.delete(`${address} ${selector}`);
    } else if (step.kind === 'rule') {
      const { selector, port, isAllowed } = step;
      addRule(fixture, selector, { protocol: 6, port, verdict: isAllowed ? 'ALLOW' : 'DENY' });
      this.#allowed[isAllowed ? 'add' : 'delete'](`${selector} ${port}`);
    } else if (step.kind === 'spoil') {
      const { address, port, slot, isOther } = step;
      const hint = hintOf(address, port);
      const word = isOther ? hint.word(slot) ^ 0x5a5a5a00 : hint.word(slot);
      fixture.map('fqdn_hints').update(bytesOf(hint.index), bytesOf(word >>> 0));
    } else this.#ask(step);
  }

  #ask({ address, port, isNew }: Step & { kind: 'ask' }): void {
    const found = selectors.filter((each) => this.#allowed.has(`${each} ${port}`));
    const states = found.flatMap((each) => [
      ...(this.#slots.get(`${address} ${each}`)?.values() ?? []),
    ]);
    const isOpen = states.some((isAlive) => isAlive || !isNew);
    const verdict = isOpen
      ? 'FORWARDED'
      : states.length > 0
        ? 'DROP_FQDN_EXPIRED'
        : 'DROP_NO_MATCH';
    const facts = { ...seenFromA, tracked: 1, info: conntrack.new };
    const packet = tcp(address.includes(':') ? a6 : a4, address, port);
    expectVerdict(fixture, packet, isNew ? facts : { ...facts, status: confirmed }, verdict);
    seen.add(verdict);
  }
}

const seen = new Set<string>();

function setUp(): void {
  setUpJudge(fixture);
  for (const address of [a4, a6]) {
    fixture.endpoint(address, { id: 1, ifindex: vethA, flags: ['ENFORCE_EGRESS', 'FQDN'] });
  }
  for (const address of addresses) {
    for (const port of ports) {
      fixture.map('fqdn_hints').update(bytesOf(hintOf(address, port).index), bytesOf(0));
    }
  }
}

describe('hints', () => {
  const address = fc.constantFrom(...addresses);
  const selector = fc.constantFrom(...selectors);
  const port = fc.constantFrom(...ports);
  const steps: readonly (readonly [weight: number, step: fc.Arbitrary<Step>])[] = [
    [
      4,
      fc.record({
        kind: fc.constant('add' as const),
        ...{ address, selector, isPast: fc.boolean() },
        isUntold: fc.integer({ min: 0, max: 3 }).map((value) => value === 0),
        namespaceId: fc.integer({ min: 1, max: namespaces }),
      }),
    ],
    [2, fc.record({ kind: fc.constant('remove' as const), address, selector })],
    [3, fc.record({ kind: fc.constant('rule' as const), selector, port, isAllowed: fc.boolean() })],
    [
      2,
      fc.record({
        kind: fc.constant('spoil' as const),
        ...{ address, port, isOther: fc.boolean() },
        slot: fc.nat({ max: slots - 1 }),
      }),
    ],
    [8, fc.record({ kind: fc.constant('ask' as const), address, port, isNew: fc.boolean() })],
  ];
  const step = fc.oneof(...steps.map(([weight, arbitrary]) => ({ weight, arbitrary })));

  test('never change a verdict', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60, minLength: 30 }), (history) => {
        setUp();
        const world = new World();
        for (const each of history) world.apply(each);
      }),
      { seed: 20261129, numRuns: 150 },
    );
    assert.deepEqual([...seen].sort(), ['DROP_FQDN_EXPIRED', 'DROP_NO_MATCH', 'FORWARDED']);
  });

  test('name the slot that answered, and follow it', () => {
    setUp();
    const [first] = addresses;
    const expires = now() + 1000;
    const at = (number: number): number => (0x80000100 + number) >>> 0;
    const add = (added: number): string[] =>
      learn(fixture, [{ op: 'ADD', address: first, selector: added, expires }]);
    for (let i = 0; i < 40; i++) add(at(i));
    addRule(fixture, at(33), { protocol: 6, port: 443 });
    expectVerdict(fixture, tcp(a4, first), seenFromA, 'FORWARDED');
    assert.equal(readHint(first, 443), hintOf(first, 443).word(33));
    learn(fixture, [{ op: 'REMOVE', address: first, selector: at(33) }]);
    expectVerdict(fixture, tcp(a4, first), seenFromA, 'DROP_NO_MATCH');
    // the slot is another selector's, which this policy does not name
    add(at(99));
    expectVerdict(fixture, tcp(a4, first), seenFromA, 'DROP_NO_MATCH');
    addRule(fixture, at(5), { protocol: 6, port: 443 });
    expectVerdict(fixture, tcp(a4, first), seenFromA, 'FORWARDED');
    assert.equal(readHint(first, 443), hintOf(first, 443).word(5));
  });
});
