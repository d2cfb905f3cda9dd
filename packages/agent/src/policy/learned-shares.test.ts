// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Compiled } from '@tandem/core/policy/model/desired';
import { EndpointFlag } from '@tandem/core/policy/model/kernel-numbers';
import { TD_PLACES_MAX, tdOrder, tdShareArgs, tdSpace } from '@tandem/datapath/abi.gen';
import type { Datapath } from '@tandem/datapath/datapath';
import { LearnedShares } from './learned-shares.ts';

interface Space {
  namespaceId: number;
  used: number;
  share: number;
  limit: number;
}

/** The kernel's side: what `share` is told, and what `learned_order` then says. */
class Kernel {
  readonly spaces: Space[] = [{ namespaceId: 0, used: 0, share: 0, limit: 0 }];
  calls = 0;
  /** The largest sum of shares at any time. */
  guaranteedMost = 0;

  get datapath(): Pick<Datapath, 'map' | 'program'> {
    const lookup = (): Uint8Array => this.#value();
    const runSyscall = (args: Uint8Array): number => this.#share(args);
    return {
      map: () => ({ lookup }),
      program: () => ({ runSyscall }),
    } as unknown as Pick<Datapath, 'map' | 'program'>;
  }

  shares(): Record<number, number> {
    const named = this.spaces.slice(1).map(({ namespaceId, share }) => [namespaceId, share]);
    return Object.fromEntries(named) as Record<number, number>;
  }

  #share(args: Uint8Array): number {
    this.calls += 1;
    const view = new DataView(args.buffer, args.byteOffset);
    const namespaceId = view.getUint32(tdShareArgs.namespace_id, true);
    const share = view.getUint32(tdShareArgs.share, true);
    const limit = view.getUint32(tdShareArgs.limit, true);
    const at = this.spaces.findIndex((space, i) => i > 0 && space.namespaceId === namespaceId);
    if (at === -1) this.spaces.push({ namespaceId, used: 0, share, limit });
    else if (limit === 0 && this.spaces[at]?.used === 0) this.spaces.splice(at, 1);
    else Object.assign(this.spaces[at] as Space, { share, limit });
    const guaranteed = this.spaces.reduce((sum, space) => sum + space.share, 0);
    this.guaranteedMost = Math.max(this.guaranteedMost, guaranteed);
    return 0;
  }

  #value(): Uint8Array {
    const value = new Uint8Array(tdOrder.size);
    const view = new DataView(value.buffer);
    view.setUint32(tdOrder.used_spaces, this.spaces.length - 1, true);
    for (const [i, { namespaceId, used, share, limit }] of this.spaces.entries()) {
      const at = tdOrder.space + i * tdSpace.size;
      view.setUint32(at + tdSpace.namespace_id, namespaceId, true);
      view.setUint32(at + tdSpace.used, used, true);
      view.setUint32(at + tdSpace.share, share, true);
      view.setUint32(at + tdSpace.limit, limit, true);
    }
    return value;
  }
}

/** Endpoints of these namespaces, with policies that name FQDNs or, for those below 0, do not. */
function compiledOf(...namespaceIds: number[]): Pick<Compiled, 'endpoints' | 'policies'> {
  const withFqdns = { flags: EndpointFlag.fqdn };
  return {
    policies: new Map([
      [1, withFqdns],
      [2, { flags: 0 }],
    ]),
    endpoints: namespaceIds.map((id) => ({ namespaceId: Math.abs(id), policyId: id > 0 ? 1 : 2 })),
  } as unknown as Pick<Compiled, 'endpoints' | 'policies'>;
}

const places = TD_PLACES_MAX;

test('the map is divided among namespaces whose policies name FQDNs', () => {
  const kernel = new Kernel();
  const shares = new LearnedShares(kernel.datapath, 1_000_000);
  shares.apply(compiledOf(5, 5, 6, -7));
  const half = Math.floor(places / 2);
  assert.deepEqual(kernel.shares(), { 5: half, 6: half });
  shares.apply(compiledOf(6, 5));
  assert.equal(kernel.calls, 2, 'nothing has changed');
});

test('no share is larger than the limit', () => {
  const kernel = new Kernel();
  new LearnedShares(kernel.datapath, 100).apply(compiledOf(5, 6));
  assert.deepEqual(kernel.shares(), { 5: 100, 6: 100 });
});

test('at no time is more guaranteed than there is', () => {
  const kernel = new Kernel();
  const shares = new LearnedShares(kernel.datapath, 1_000_000);
  for (const ids of [[5], [5, 6, 7], [8, 9], [6], [6, 5, 9, 10]]) shares.apply(compiledOf(...ids));
  assert.ok(kernel.guaranteedMost <= places, `${kernel.guaranteedMost}`);
});

test('a namespace that is gone has no share, and is forgotten when it has no pair', () => {
  const kernel = new Kernel();
  const shares = new LearnedShares(kernel.datapath, 1_000_000);
  shares.apply(compiledOf(5, 6));
  const left = kernel.spaces[1] as Space;
  left.used = 3;
  shares.apply(compiledOf(6));
  assert.deepEqual(kernel.shares(), { 5: 0, 6: places });
  left.used = 0;
  shares.apply(compiledOf(6));
  assert.deepEqual(kernel.shares(), { 6: places });
  const { calls } = kernel;
  shares.apply(compiledOf(6));
  assert.equal(kernel.calls, calls);
});

test('what another life of the agent set is brought up to date', () => {
  const kernel = new Kernel();
  new LearnedShares(kernel.datapath, 1_000_000).apply(compiledOf(5));
  new LearnedShares(kernel.datapath, 1_000_000).apply(compiledOf(6));
  assert.deepEqual(kernel.shares(), { 6: places });
});
