// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Requests to `learn`, as a member makes them: a batch in its slot of `learn_requests`, then one run. */

import assert from 'node:assert/strict';
import { mappedAddressBytes } from '@tandem/testing/address';
import type { Fixture } from './fixture.ts';

export interface LearnRequest {
  readonly op: 'ADD' | 'REMOVE' | 'EXPIRE' | number;
  readonly address: string | Uint8Array;
  readonly selector?: number;
  readonly expires?: number;
  readonly namespaceId?: number;
  /** No policy of the namespace wants it. */
  readonly isOffered?: boolean;
  /** Default: true for an IPv6 address. */
  readonly isAaaa?: boolean;
}

/** Lays the batch down; returns where it lies. */
export function writeRequests(
  fixture: Fixture,
  requests: readonly LearnRequest[],
  writer = 0,
): Uint8Array {
  const { structs } = fixture;
  const size = structs.layout('td_learn_request').size;
  const start = writer * structs.layout('td_learn_batch').size;
  const batch = new Uint8Array(fixture.map('learn_requests').mmap()).subarray(start);
  for (const [i, request] of requests.entries()) {
    const isText = typeof request.address === 'string';
    const isIpv6 = typeof request.address === 'string' && request.address.includes(':');
    const bytes = structs.bytes('td_learn_request', {
      addr: isText ? mappedAddressBytes(String(request.address)) : (request.address as Uint8Array),
      selector: request.selector ?? 0,
      expires_s: request.expires ?? 0,
      namespace_id: request.namespaceId ?? 1,
      op: typeof request.op === 'number' ? request.op : structs.number(`TD_LEARN_${request.op}`),
      offered: request.isOffered === true ? 1 : 0,
      aaaa: (request.isAaaa ?? isIpv6) ? 1 : 0,
    });
    batch.set(bytes, i * size);
  }
  return batch;
}

/** Runs the batch; results as names of td_learn_result without TD_LEARN_. */
export function learn(fixture: Fixture, requests: readonly LearnRequest[], writer = 0): string[] {
  const { structs } = fixture;
  const size = structs.layout('td_learn_request').size;
  const batch = writeRequests(fixture, requests, writer);
  const args = structs.bytes('td_learn_args', { writer, count: requests.length });
  assert.equal(fixture.object.program('learn').runSyscall(args), 0);
  const results = requests.map((_, i) =>
    structs.read('td_learn_request', batch.subarray(i * size), 'result'),
  );
  const failed = results.filter((result) => result < 0).length;
  assert.equal(structs.read('td_learn_args', args, 'failed'), failed);
  return results.map((result) => resultName(fixture, result));
}

/** Runs the batch; nothing may be refused. */
export function learnInto(fixture: Fixture, requests: readonly LearnRequest[]): void {
  for (const name of learn(fixture, requests)) assert.ok(!name.startsWith('REFUSED'), name);
}

const resultNames = [
  'OK',
  'UNCHANGED',
  'ABSENT',
  'KEPT',
  'REFUSED_ADDRESS',
  'REFUSED_SELECTORS',
  'REFUSED_NAMESPACE',
  'REFUSED_SELECTOR',
  'REFUSED_FULL',
  'REFUSED_BUSY',
  'REFUSED_REQUEST',
] as const;

function resultName(fixture: Fixture, result: number): string {
  const name = resultNames.find((each) => {
    // enumerators are read as unsigned words
    return (fixture.structs.number(`TD_LEARN_${each}`) | 0) === result;
  });
  assert.ok(name !== undefined, `result ${result}`);
  return name;
}

/**
 * Runs `learn` as versions before `td_space.filled` do: with the same changes of `fqdn`, and without the counters that judge
 * compares. It restores these counters afterwards.
 */
export function learnUntold(fixture: Fixture, requests: readonly LearnRequest[]): string[] {
  const { structs } = fixture;
  const order = fixture.map('learned_order');
  const read = (): Uint8Array => {
    const value = order.lookup(new Uint8Array(4));
    assert.ok(value !== null);
    return value;
  };
  const spaces = structs.layout('td_order').fields.get('space');
  assert.ok(spaces !== undefined);
  const size = structs.layout('td_space').size;
  const before = read();
  const results = learn(fixture, requests);
  const after = read();
  for (const field of ['told', 'untold']) {
    structs.write('td_order', after, field, structs.read('td_order', before, field));
  }
  for (let i = 0; i < spaces.count; i++) {
    const start = spaces.offset + i * size;
    const filled = structs.read('td_space', before.subarray(start), 'filled');
    structs.write('td_space', after.subarray(start), 'filled', filled);
  }
  order.update(new Uint8Array(4), after);
  return results;
}
