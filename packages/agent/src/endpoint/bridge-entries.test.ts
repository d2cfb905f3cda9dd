// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, test } from 'node:test';
import { ifindex } from '@tandem/bpf-loader-node/netns';
import { parseAddress } from '@tandem/core/net/ip';
import { NetworkView } from '@tandem/netlink/network-view';
import { insideNamespace } from '@tandem/testing/inside';
import { Namespace } from '@tandem/testing/namespace';
import { type BridgedEndpoint, ensureBridgeEntries } from './bridge-entries.ts';

const run = (program: string, ...args: readonly string[]): string =>
  execFileSync(program, args, { encoding: 'utf8' });
const ip = (...commands: readonly string[]): void => {
  execFileSync('ip', ['-batch', '-'], { input: `${commands.join('\n')}\n` });
};
const mac = '02:00:00:00:00:11';
const texts = ['10.2.0.11', 'fd02::11'] as const;
let pods: Namespace;
let view: NetworkView;

/** The port and flags of the pod's address, and the node's permanent neighbours. */
function entries(): readonly string[] {
  const forwarding = run('bridge', 'fdb', 'show', 'br', 'cni0').split('\n');
  const neighbors = ['-4', '-6'].flatMap((family) =>
    run('ip', family, 'neigh', 'show', 'nud', 'permanent').split('\n'),
  );
  return [...forwarding.filter((line) => line.startsWith(mac)), ...neighbors.filter(Boolean)].map(
    (line) => line.trim(),
  );
}

const wanted = [
  `${mac} dev port sticky master cni0 static`,
  ...texts.map((text) => `${text} dev cni0 lladdr ${mac} PERMANENT proto 84`),
];

function endpoints(): readonly BridgedEndpoint[] {
  return texts.map((text) => {
    const address = parseAddress(text);
    assert.ok(address !== null);
    return {
      address,
      interface: {
        name: 'port',
        vethIfindex: ifindex('port'),
        l3Ifindex: ifindex('cni0'),
        isBridged: true,
        bridgeMac: new Uint8Array(6),
        mac: Uint8Array.of(2, 0, 0, 0, 0, 0x11),
      },
    };
  });
}

async function ensure(of: readonly BridgedEndpoint[]): Promise<void> {
  await view.refresh();
  assert.deepEqual(await ensureBridgeEntries(view.state, view.rtnetlink, of), []);
}

insideNamespace(import.meta, () => {
  before(async () => {
    pods = await Namespace.create('pods');
    ip(
      'link add cni0 type bridge',
      `link add port type veth peer name eth0 netns ${pods.name}`,
      `link add other type veth peer name eth1 netns ${pods.name}`,
      'link set cni0 up',
      'link set port master cni0 up',
      'link set other master cni0 up',
      'addr add 10.2.0.1/24 dev cni0',
      'addr add fd02::1/64 dev cni0 nodad',
    );
    await pods.ip(['link set eth0 up', 'link set eth1 up']);
    view = await NetworkView.open();
  });
  after(async () => {
    view.close();
    await pods[Symbol.asyncDispose]();
  });

  test('made once; a second time changes nothing', async () => {
    await ensure(endpoints());
    const made = entries();
    for (const line of wanted) assert.ok(made.includes(line), `${line}: ${made.join('\n')}`);
    await ensure(endpoints());
    assert.deepEqual(entries(), made);
  });

  test('an address of a family that the bridge does not have has no neighbour, until it has it', async () => {
    const setIpv6 = (isOff: number): string =>
      run('sysctl', '-qw', `net.ipv6.conf.cni0.disable_ipv6=${isOff}`);
    setIpv6(1);
    await ensure(endpoints());
    assert.ok(!entries().some((line) => line.startsWith(texts[1])));
    setIpv6(0);
    await ensure(endpoints());
    for (const line of wanted) assert.ok(entries().includes(line), line);
  });

  const changes: readonly (readonly [string, () => void])[] = [
    ['removed', () => run('bridge', 'fdb', 'del', mac, 'dev', 'port', 'master')],
    [
      'moved by hand',
      () => run('bridge', 'fdb', 'replace', mac, 'dev', 'other', 'master', 'static'),
    ],
    [
      'of another address',
      () =>
        run(
          'ip',
          'neigh',
          'replace',
          texts[0],
          'lladdr',
          '02:00:00:00:00:66',
          'dev',
          'cni0',
          'nud',
          'permanent',
        ),
    ],
    ['without its neighbour', () => run('ip', 'neigh', 'del', texts[1], 'dev', 'cni0')],
  ];
  for (const [what, change] of changes) {
    test(`${what}: made again`, async () => {
      await ensure(endpoints());
      change();
      await ensure(endpoints());
      const made = entries();
      for (const line of wanted) assert.ok(made.includes(line), `${line}: ${made.join('\n')}`);
    });
  }

  test('of a pod that is gone: removed, and no entry of others', async () => {
    await ensure(endpoints());
    ip('neigh add 10.2.0.99 lladdr 02:00:00:00:00:99 dev cni0 nud permanent');
    await ensure([]);
    const left = entries().filter((line) => line.includes('PERMANENT'));
    assert.ok(left.includes('10.2.0.99 dev cni0 lladdr 02:00:00:00:00:99 PERMANENT'));
    for (const text of texts) assert.ok(!left.some((line) => line.startsWith(`${text} `)), text);
  });
});
