// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BpfError, type BpfErrorCode } from '@tandem/bpf-loader-node/errors';
import { chainsLookedAtMax, precededShownMax } from '../limits.ts';
import { ChainWatch } from './chain-watch.ts';

function failure(code: BpfErrorCode): BpfError {
  return new BpfError({ code, action: 'list tcx programs of', object: 'interface 7', errno: 1 });
}

interface Node {
  count: number;
  readonly preceded: Set<number>;
  readonly gone: Set<number>;
  readonly asked: number[];
  readonly logged: string[];
  readonly watch: ChainWatch;
}

function nodeWith(count: number): Node {
  const node = {
    ...{ count, preceded: new Set<number>(), gone: new Set<number>() },
    ...{ asked: [] as number[], logged: [] as string[] },
  };
  const watch = new ChainWatch({
    datapath: {
      isPreceded: (ifindex) => {
        node.asked.push(ifindex);
        if (node.gone.has(ifindex)) throw failure('TANDEM_BPF_NOT_FOUND');
        return node.preceded.has(ifindex);
      },
    },
    // Each pod has an address of both families.
    interfaces: () =>
      Array.from({ length: 2 * node.count }, (_, i) => ({
        name: `veth${i >> 1}`,
        vethIfindex: i >> 1,
      })),
    log: { warn: (_message, fields) => node.logged.push(String(fields?.['interface'])) },
  });
  return Object.assign(node, { watch });
}

test('a round looks at no more than its slice, and a few rounds at all', () => {
  const count = 2 * chainsLookedAtMax + 5;
  const node = nodeWith(count);
  node.preceded.add(count - 1);
  for (const looked of [chainsLookedAtMax, chainsLookedAtMax, 5]) {
    assert.deepEqual(node.watch.degradations, []);
    const before = node.asked.length;
    node.watch.look();
    assert.equal(node.asked.length - before, looked);
  }
  assert.equal(new Set(node.asked).size, count);
  assert.match(node.watch.degradations[0]?.message ?? '', new RegExp(`on veth${count - 1}: `));
  node.preceded.clear();
  for (let i = 0; i < 3; i++) node.watch.look();
  assert.deepEqual(node.watch.degradations, []);
  assert.deepEqual(node.logged, [`veth${count - 1}`], 'said once');
});

test('the message has a bound, and interfaces that are gone are in none', () => {
  const node = nodeWith(precededShownMax + 2);
  for (let i = 0; i < node.count; i++) node.preceded.add(i);
  node.watch.look();
  assert.match(node.watch.degradations[0]?.message ?? '', /veth0, .* and 2 more: /);
  node.count -= 2;
  node.gone.add(0);
  node.watch.look();
  assert.doesNotMatch(node.watch.degradations[0]?.message ?? '', /more|veth0/);
  node.count = 0;
  node.watch.look();
  assert.deepEqual(node.watch.degradations, []);
});

test('an interface that cannot be asked for another reason is an error, not a silence', () => {
  const watch = new ChainWatch({
    datapath: {
      isPreceded: () => {
        throw failure('TANDEM_BPF_PERMISSION');
      },
    },
    interfaces: () => [{ name: 'veth0', vethIfindex: 7 }],
    log: { warn: () => undefined },
  });
  assert.throws(() => watch.look(), { code: 'TANDEM_BPF_PERMISSION' });
});
