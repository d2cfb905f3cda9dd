// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A kernel that does not answer for a while, as while its RTNL lock is taken because pods end by the hundred. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mock, test } from 'node:test';
import { networkKinds } from '@tandem/netlink/network-state';
import { NetworkView } from '@tandem/netlink/network-view';
import { Rtnetlink } from '@tandem/netlink/rtnetlink';
import { insideNamespace } from '@tandem/testing/inside';
import { networkPauseMs } from '../limits.ts';
import { awaitNetwork } from './node-network.ts';
import { removeDatapath } from './node-removal.ts';

type Read = (...args: readonly unknown[]) => Promise<unknown>;

const rules = { mark: 0x1000, port: 10_053, routingTable: 2077, rulePriority: 9 };
const longMs = 20 * networkPauseMs;
const shortMs = 2 * networkPauseMs;

insideNamespace(import.meta, () => {
  /** The first `times` readings fail. */
  const withoutAnswer = async (
    kind: 'links' | 'neighbors' | 'routes',
    times: number,
    work: () => Promise<void>,
  ): Promise<void> => {
    const prototype = Rtnetlink.prototype as unknown as Record<string, Read>;
    const read = prototype[kind] as Read;
    let left = times;
    const fake = mock.method(prototype, kind, function each(this: unknown, ...args: unknown[]) {
      return left-- > 0 ? Promise.reject(new Error('no answer')) : read.apply(this, args);
    });
    try {
      await work();
    } finally {
      fake.mock.restore();
    }
  };

  test('a start waits for the interfaces', async () => {
    await withoutAnswer('links', 3, async () => {
      using view = await NetworkView.open();
      assert.equal(view.state.links.size, 0);
      await awaitNetwork(view, longMs);
      assert.equal(view.state.linkByName('lo')?.ifindex, 1);
    });
  });

  test('a start ends without the interfaces, and goes on without the neighbours', async () => {
    await withoutAnswer('links', Number.POSITIVE_INFINITY, async () => {
      using view = await NetworkView.open();
      await assert.rejects(
        awaitNetwork(view, shortMs),
        /links of the node cannot be read: no answer/,
      );
    });
    await withoutAnswer('neighbors', Number.POSITIVE_INFINITY, async () => {
      using view = await NetworkView.open();
      await awaitNetwork(view, shortMs);
      assert.deepEqual([...view.problems.keys()], ['neighbors']);
    });
  });

  test('a start waits for the routes, which say by what the node reaches others, longer than for the neighbours', async () => {
    await withoutAnswer('routes', 4, async () => {
      using view = await NetworkView.open();
      await awaitNetwork(view, longMs, 0);
      assert.equal(view.problems.size, 0);
    });
    await withoutAnswer('neighbors', Number.POSITIVE_INFINITY, async () => {
      using view = await NetworkView.open();
      const startMs = performance.now();
      await awaitNetwork(view, longMs, shortMs);
      assert.ok(performance.now() - startMs < longMs / 2);
    });
  });

  test('a network that can be read is not read again', async () => {
    using view = await NetworkView.open();
    await awaitNetwork(view, longMs);
    assert.equal(view.counters.reads, networkKinds.length);
  });

  test('a removal that cannot read what there is does not say that all is gone', async () => {
    execFileSync('ip', ['link', 'set', 'lo', 'up']);
    execFileSync('ip', ['route', 'add', 'local', 'default', 'dev', 'lo', 'table', '2077']);
    const remove = async (): Promise<readonly string[]> => {
      using view = await NetworkView.open({ tables: [rules.routingTable] });
      const problems = await removeDatapath({
        view,
        rules,
        pinRoot: '/absent/tandem',
        proxyGid: 1,
      });
      return problems.map(({ part, message }) => `${part}: ${message}`);
    };
    await withoutAnswer('routes', Number.POSITIVE_INFINITY, async () => {
      assert.deepEqual(await remove(), [
        'IPv4 routing: routes of the node cannot be read: no answer',
        'IPv6 routing: routes of the node cannot be read: no answer',
      ]);
    });
    await withoutAnswer('neighbors', Number.POSITIVE_INFINITY, async () => {
      assert.deepEqual(await remove(), [
        'bridge entries: neighbors of the node cannot be read: no answer',
      ]);
    });
    assert.deepEqual(await remove(), []);
  });
});
