// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { formatAddress } from '@tandem/core/net/ip';
import { NetworkView } from '@tandem/netlink/network-view';
import { insideNamespace } from '@tandem/testing/inside';
import { Namespace } from '@tandem/testing/namespace';
import { cachedResultBytesMax } from './limits.ts';
import { ResultCache } from './result-cache.ts';

const directory = mkdtempSync(join(tmpdir(), 'tandem-results-'));
const podMac = '02:00:00:00:00:11';
const sandbox = '/var/run/netns/cni-1';

function entry(changes: object = {}): object {
  return {
    kind: 'cniCacheV1',
    containerId: 'sandbox-1',
    config: 'e30=',
    ifName: 'eth0',
    networkName: 'pods',
    netns: sandbox,
    cniArgs: [
      ['IgnoreUnknown', '1'],
      ['K8S_POD_NAMESPACE', 'shop'],
      ['K8S_POD_NAME', 'web'],
      ['K8S_POD_UID', 'uid-1'],
    ],
    result: {
      cniVersion: '1.0.0',
      interfaces: [{ name: 'port' }, { name: 'eth0', mac: podMac, sandbox }],
      ips: [
        { interface: 1, address: '10.2.0.11/24' },
        { interface: 1, address: 'fd00:2::11/64' },
      ],
    },
    ...changes,
  };
}

function result(changes: object): object {
  return { result: { ...(entry() as { result: object }).result, ...changes } };
}

insideNamespace(import.meta, () => {
  let view: NetworkView;
  let pod: Namespace;

  before(async () => {
    pod = await Namespace.create('pod');
    execFileSync('ip', [
      ...['link', 'add', 'port', 'type', 'veth', 'peer', 'name', 'eth0'],
      ...['address', podMac, 'netns', pod.name],
    ]);
    view = await NetworkView.open();
  });
  after(async () => {
    view.close();
    await pod[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true });
  });

  test('sandboxes with their addresses and the interface that is really theirs', async () => {
    const files: Readonly<Record<string, unknown>> = {
      'pods-1-eth0': entry(),
      'cni-loopback-1-lo': entry({ ifName: 'lo' }),
      'pods-2-net1': entry({ ifName: 'net1' }),
      'podman-3-eth0': entry({ cniArgs: [] }),
      'pods-4-eth0': entry(
        result({
          interfaces: [{ name: 'port' }, { name: 'eth0', mac: '02:00:00:00:00:12', sandbox }],
        }),
      ),
      'pods-5-eth0': entry(result({ ips: [] })),
      'pods-6-eth0': 'half a fi',
      'pods-7-eth0': 'x'.repeat(cachedResultBytesMax + 1),
      'routed-8-eth0': entry({
        containerId: 'sandbox-8',
        ...result({ interfaces: [], ips: [{ address: '10.2.0.18/32' }] }),
      }),
    };
    for (const [name, content] of Object.entries(files)) {
      const text = typeof content === 'string' ? content : JSON.stringify(content);
      writeFileSync(join(directory, name), text);
    }
    const { sandboxes, problems } = await new ResultCache(directory, 'eth0', view).readNew();
    assert.deepEqual(
      sandboxes.map((each) => ({
        ...each,
        addresses: each.addresses.map((address) => formatAddress(address)),
      })),
      [
        {
          podKey: 'shop/web',
          uid: 'uid-1',
          containerId: 'sandbox-1',
          addresses: ['10.2.0.11', 'fd00:2::11'],
          interfaceName: 'port',
        },
        {
          podKey: 'shop/web',
          uid: 'uid-1',
          containerId: 'sandbox-8',
          addresses: ['10.2.0.18'],
          interfaceName: null,
        },
      ],
    );
    assert.equal(problems.length, 3, problems.join('\n'));
    assert.match(problems[0] ?? '', /pods-5-eth0: it has no address of eth0/);
    assert.match(problems[1] ?? '', /pods-6-eth0: .*JSON/);
    assert.match(problems[2] ?? '', /pods-7-eth0: it has more than/);
  });

  test('what is written later is read then, once, and half a file again when it is whole', async () => {
    const later = join(directory, 'later');
    const cache = new ResultCache(later, 'eth0', view);
    assert.deepEqual(await cache.readNew(), { sandboxes: [], problems: [] });
    mkdirSync(later);
    const whole = JSON.stringify(entry());
    writeFileSync(join(later, 'pods-1-eth0'), whole);
    writeFileSync(join(later, 'pods-2-eth0'), whole.slice(0, 100));
    const first = await cache.readNew();
    assert.deepEqual(
      first.sandboxes.map(({ podKey, interfaceName }) => [podKey, interfaceName]),
      [['shop/web', 'port']],
    );
    assert.equal(first.problems.length, 1, 'half a file is named');
    assert.deepEqual(await cache.readNew(), { sandboxes: [], problems: [] }, 'nothing is new');
    writeFileSync(join(later, 'pods-2-eth0'), whole);
    const second = await cache.readNew();
    assert.deepEqual([second.sandboxes.length, second.problems.length], [1, 0]);
    rmSync(join(later, 'pods-1-eth0'));
    writeFileSync(join(later, 'pods-1-eth0'), whole);
    assert.equal((await cache.readNew()).sandboxes.length, 1, 'another file of the same name');
  });

  test('of two sandboxes of a pod the one that was written later comes last, whatever its name is', async () => {
    const left = join(directory, 'left');
    mkdirSync(left);
    // Plugins that do not name the MAC address of the pod, and name its veth by the pod: both files fit the interface.
    const plain = result({
      interfaces: [{ name: 'port' }],
      ips: [{ address: '10.2.0.18/32' }],
    });
    for (const [containerId, seconds] of [
      ['b-former', 1000],
      ['a-later', 2000],
    ] as const) {
      const path = join(left, `pods-${containerId}-eth0`);
      writeFileSync(path, JSON.stringify(entry({ containerId, ...plain })));
      utimesSync(path, seconds, seconds);
    }
    const { sandboxes } = await new ResultCache(left, 'eth0', view).readNew();
    assert.deepEqual(
      sandboxes.map(({ containerId }) => containerId),
      ['b-former', 'a-later'],
    );
  });

  test('no directory, no results', async () => {
    const none = await new ResultCache(join(directory, 'nowhere'), 'eth0', view).readNew();
    assert.deepEqual(none, { sandboxes: [], problems: [] });
  });
});
