// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Orders of learned pairs that are kept at their limit, for what `learn` costs where one goes for each that comes. */

import assert from 'node:assert/strict';
import { Fixture } from './fixture.ts';
import { type LearnRequest, learnInto, writeRequests } from './learning.ts';
import { OrderState, setShare } from './order-state.ts';

const selector = 0x80000001;
const expires = 0x7fffffff;
/** The namespace that is at its limit. */
const fullNamespace = 900;
/** Requests of one call. */
export const batch = 128;
/** All pairs that the maps of a node hold (TD_PLACES_MAX). */
const placesMax = 98_303;
/** Pairs of the namespace at its limit, and of another one. The fuller `fqdn` is, the more pages lie in a bucket of the hash. */
export const fullOrders: readonly { readonly pairs: number; readonly others: number }[] = [
  { pairs: 1000, others: 0 },
  { pairs: 1000, others: placesMax - 1000 },
  { pairs: placesMax, others: 0 },
];

/** The pairs of `fullNamespace`, at its limit. */
export interface FullOrder {
  readonly fixture: Fixture;
  readonly pairs: number;
  /** Additions of addresses that it does not have. */
  next(count: number): LearnRequest[];
}

export function orderOf(of: Fixture, pairs: number): FullOrder {
  let added = 0;
  setShare(of, fullNamespace, 0, pairs);
  const next = (count: number): LearnRequest[] =>
    Array.from({ length: count }, () => {
      added += 1;
      const address = `13.${added >> 16}.${(added >> 8) & 255}.${added & 255}`;
      return { op: 'ADD' as const, address, selector, expires, namespaceId: fullNamespace };
    });
  return { fixture: of, pairs, next };
}

/** `orders` ends the fixture. */
export function fullOrder(orders: DisposableStack, pairs: number, others: number): FullOrder {
  const sizes = { fqdn: 131_072, quotas: 1024 };
  const limits = { pairs: placesMax, quota_namespace: placesMax };
  const of = orders.use(new Fixture(sizes, true, limits));
  const order = orderOf(of, pairs);
  fill(others, (count) => order.next(count).map((each) => ({ ...each, namespaceId: 1 })));
  fill(pairs, (count) => order.next(count));
  assert.equal(usedPairs(order), pairs);
  return order;

  function fill(total: number, next: (count: number) => LearnRequest[]): void {
    for (let left = total; left > 0; left -= batch) learnInto(of, next(Math.min(left, batch)));
  }
}

export function usedPairs({ fixture: of }: FullOrder): number | undefined {
  return new OrderState(of).ofNamespace(fullNamespace)?.used;
}

/** ns of a new address of a namespace at its limit: one goes for each that comes. */
export function measureReplace(order: FullOrder): number {
  const runs = 50;
  const program = order.fixture.object.program('learn');
  const args = order.fixture.structs.bytes('td_learn_args', { writer: 0, count: batch });
  let sum = 0n;
  for (let i = 0; i < runs; i++) {
    writeRequests(order.fixture, order.next(batch));
    const start = process.hrtime.bigint();
    program.runSyscall(args);
    sum += process.hrtime.bigint() - start;
  }
  return Number(sum) / runs / batch;
}
