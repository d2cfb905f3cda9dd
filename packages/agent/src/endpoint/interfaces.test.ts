// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, test } from 'node:test';
import { ifindex } from '@tandem/bpf-loader-node/netns';
import { parseAddress } from '@tandem/core/net/ip';
import { insideNamespace } from '@tandem/testing/inside';
import { Namespace } from '@tandem/testing/namespace';
import { waitFor } from '@tandem/testing/wait';
import { InterfaceTable, provokeNeighbor } from './interfaces.ts';

const ip = (...commands: readonly string[]): void => {
  execFileSync('ip', ['-batch', '-'], { input: `${commands.join('\n')}\n` });
};
const bridgeMac = '02:00:00:00:00:99';
let pod: Namespace;

insideNamespace(import.meta, () => {
  before(async () => {
    pod = await Namespace.create('pod');
    ip(
      'link add ptp type veth peer name eth0 netns ' + pod.name,
      'link set ptp up',
      'route add 10.0.0.11 dev ptp',
      'route add fd00::11 dev ptp',
      `link add br0 address ${bridgeMac} type bridge`,
      'link set br0 up',
      'addr add 10.2.0.1/24 dev br0',
      'addr add fd02::1/64 dev br0 nodad',
      `link add port type veth peer name eth1 netns ${pod.name}`,
      'link set port master br0 up',
    );
    await pod.ip([
      'link set eth0 up',
      'link set eth1 up',
      'addr add 10.2.0.11/24 dev eth1',
      'addr add fd02::11/64 dev eth1 nodad',
    ]);
  });
  after(() => pod[Symbol.asyncDispose]());

  test('a point-to-point pod by its route', async () => {
    const table = await InterfaceTable.read();
    for (const address of ['10.0.0.11', 'fd00::11']) {
      assert.deepEqual(table.find(address, undefined), {
        name: 'ptp',
        vethIfindex: ifindex('ptp'),
        l3Ifindex: ifindex('ptp'),
        bridgeMac: new Uint8Array(6),
        isBridged: false,
      });
    }
  });

  test('a pod behind a bridge, once the bridge knows its MAC address', async () => {
    for (const text of ['10.2.0.11', 'fd02::11']) {
      const address = parseAddress(text);
      assert.ok(address !== null);
      const found = await waitFor(
        async () => {
          await provokeNeighbor(address, text);
          return (await InterfaceTable.read()).find(text, undefined);
        },
        { what: `the port of ${text}` },
      );
      assert.deepEqual(found, {
        name: 'port',
        vethIfindex: ifindex('port'),
        l3Ifindex: ifindex('br0'),
        bridgeMac: Uint8Array.of(2, 0, 0, 0, 0, 0x99),
        isBridged: true,
      });
    }
  });

  test('the annotation goes before what routes say', async () => {
    const table = await InterfaceTable.read();
    assert.equal(table.find('10.0.0.11', 'port')?.name, 'port');
    assert.equal(table.find('203.0.113.1', 'ptp')?.vethIfindex, ifindex('ptp'));
  });

  test('what is not found is null: no route, a wrong annotation, the bridge itself', async () => {
    const table = await InterfaceTable.read();
    assert.equal(table.find('203.0.113.1', undefined), null);
    assert.equal(table.find('10.0.0.11', 'gone'), null);
    assert.equal(table.find('10.2.0.11', 'br0'), null, 'a bridge is nobody’s own interface');
    assert.equal(table.indexOf('br0'), ifindex('br0'));
    assert.equal(table.indexOf('gone'), undefined);
    // No route leads there, which is no reason to fail the other pods.
    const far = parseAddress('203.0.113.1');
    assert.ok(far !== null);
    await provokeNeighbor(far, '203.0.113.1');
  });
});
