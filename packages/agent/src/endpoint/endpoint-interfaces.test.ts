// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, test } from 'node:test';
import { ifindex } from '@tandem/bpf-loader-node/netns';
import type { NamespaceId, PolicyId } from '@tandem/core/ids';
import { parseAddress } from '@tandem/core/net/ip';
import type { EndpointDesired } from '@tandem/core/policy/model/desired';
import { NetworkView } from '@tandem/netlink/network-view';
import { insideNamespace } from '@tandem/testing/inside';
import { Namespace } from '@tandem/testing/namespace';
import { waitFor } from '@tandem/testing/wait';
import { endedMsMax } from '../limits.ts';
import {
  EndpointInterfaces,
  type InterfaceSources,
  type KnownInterface,
} from './endpoint-interfaces.ts';
import { classifyDevices, type DeviceOptions } from './node-devices.ts';

const ip = (...commands: readonly string[]): void => {
  execFileSync('ip', ['-batch', '-'], { input: `${commands.join('\n')}\n` });
};
/** As if learned there, which a bridge takes once the port forwards: some time after its peer is up. */
const learn = async (mac: string, port: string): Promise<void> => {
  const isForwarding = (): boolean =>
    execFileSync('bridge', ['link', 'show', 'dev', port], { encoding: 'utf8' }).includes(
      'state forwarding',
    );
  await waitFor(isForwarding, { what: `${port} to forward` });
  execFileSync('bridge', ['fdb', 'replace', mac, 'dev', port, 'master', 'dynamic']);
};
const bridgeMac = '02:00:00:00:00:99';
const portMac = '02:00:00:00:00:11';
const options: DeviceOptions = {
  trustedInterfaces: ['lxc'],
  podBridges: ['cni0'],
  tunnelPorts: [4789],
};
let pod: Namespace;
let view: NetworkView;
/** Interfaces to which programs were attached. */
const attached = new Set<number>();

function endpoint(id: number, text: string, interfaceName?: string): EndpointDesired {
  const address = parseAddress(text);
  assert.ok(address !== null);
  return {
    address,
    endpointId: id,
    pod: { namespace: 'shop', name: `pod-${id}`, uid: `${id}` },
    policyId: 1 as PolicyId,
    classId: 2,
    flags: 0,
    namespaceId: 1 as NamespaceId,
    ...(interfaceName === undefined ? {} : { interfaceName }),
  };
}

function sources(): InterfaceSources {
  const { trusted } = classifyDevices(view.state, options, (index) => attached.has(index));
  return {
    state: view.state,
    isTrusted: (index) => trusted.includes(index),
    isAttached: (index) => attached.has(index),
    peerMac: async ({ link, linkNetnsId }) =>
      (await view.rtnetlink.linkIn(linkNetnsId ?? -1, link))?.mac ?? null,
  };
}

/** Names by endpoint id, and the messages of those without. */
async function resolve(
  interfaces: EndpointInterfaces,
  ...desired: readonly EndpointDesired[]
): Promise<Readonly<Record<number, string>>> {
  await view.refresh();
  const { found, problems } = await interfaces.resolve(desired, sources());
  for (const { vethIfindex } of found.values()) attached.add(vethIfindex);
  return Object.fromEntries([
    ...[...found].map(([id, { name }]) => [id, name]),
    ...problems.map(({ endpoint: of, code, message }) => [of.endpointId, `${code}: ${message}`]),
  ]) as Record<number, string>;
}

insideNamespace(import.meta, () => {
  before(async () => {
    pod = await Namespace.create('pod');
    // A report of MLD, sent again seconds after a link came up, would move a forwarding entry of a test to its port.
    await pod.sysctl({ 'net.ipv6.conf.default.disable_ipv6': 1 });
    const veth = (name: string, peer: string, more = ''): string =>
      `link add ${name} type veth peer name ${peer} netns ${pod.name}${more}`;
    ip(
      'link set lo up',
      veth('ptp', 'eth0'),
      veth('up0', 'eth1'),
      veth('port', 'eth2'),
      veth('twin', 'eth3'),
      veth('lxc', 'eth4'),
      veth('stray', 'eth5'),
      'link add own0 type veth peer name own1',
      'tuntap add tap0 mode tap',
      `link add cni0 address ${bridgeMac} type bridge`,
      'link add docker0 type bridge',
      'link add vx1 type vxlan id 7 dstport 7777 dev up0',
      ...['ptp', 'up0', 'lxc', 'cni0', 'tap0'].map((name) => `link set ${name} up`),
      'link set port master cni0 up',
      'link set twin master cni0 up',
      'addr add 192.168.9.1/24 dev up0',
      'route add default via 192.168.9.2 dev up0',
      'route add 10.0.0.11 dev ptp',
      'route add 10.0.0.12 dev cni0',
      'route add 10.0.0.14 dev tap0',
    );
    await pod.ip([
      `link set eth2 address ${portMac}`,
      `link set eth3 address ${portMac}`,
      'link set eth2 up',
      'link set eth3 up',
    ]);
    view = await NetworkView.open();
  });
  after(async () => {
    view.close();
    await pod[Symbol.asyncDispose]();
  });

  test('by a host route, or by the name that the operator gave', async () => {
    const interfaces = new EndpointInterfaces(new Map());
    await view.refresh();
    const desired = [endpoint(1, '10.0.0.11'), endpoint(2, '10.2.0.11', 'port')];
    const { found, problems } = await interfaces.resolve(desired, sources());
    assert.deepEqual(problems, []);
    assert.deepEqual(found.get(1), {
      name: 'ptp',
      vethIfindex: ifindex('ptp'),
      l3Ifindex: ifindex('ptp'),
      isBridged: false,
      bridgeMac: new Uint8Array(6),
      mac: new Uint8Array(6),
    });
    assert.deepEqual(found.get(2), {
      name: 'port',
      vethIfindex: ifindex('port'),
      l3Ifindex: ifindex('cni0'),
      isBridged: true,
      bridgeMac: Uint8Array.of(2, 0, 0, 0, 0, 0x99),
      mac: Uint8Array.of(2, 0, 0, 0, 0, 0x11),
    });
  });

  const refused: readonly (readonly [name: string, EndpointDesired, RegExp])[] = [
    ['the uplink', endpoint(3, '10.0.0.3', 'up0'), /refused: up0 leads out of the node/],
    ['one that is trusted', endpoint(3, '10.0.0.3', 'lxc'), /refused: lxc leads out/],
    ['a bridge', endpoint(3, '10.0.0.3', 'cni0'), /refused: cni0 is no veth \(bridge\)/],
    ['a tap device', endpoint(3, '10.0.0.3', 'tap0'), /refused: tap0 is no veth/],
    ['the loopback', endpoint(3, '10.0.0.3', 'lo'), /refused: lo is no veth \(hardware\)/],
    ["the host's own pair", endpoint(3, '10.0.0.3', 'own0'), /refused: own0 has its other end/],
    ['a tap device of a host route', endpoint(3, '10.0.0.14'), /refused: tap0 is no veth/],
    [
      'one that is not there',
      endpoint(3, '10.0.0.3', 'gone'),
      /not-found: there is no interface gone/,
    ],
    ['a route to a bridge', endpoint(3, '10.0.0.12'), /not-found: no route of the node leads/],
    ['no route', endpoint(3, '203.0.113.1'), /not-found: no route of the node leads/],
  ];
  for (const [name, desired, message] of refused) {
    test(`refused, by name: ${name}`, async () => {
      const got = await resolve(new EndpointInterfaces(new Map()), desired);
      assert.match(got[3] ?? '', message);
    });
  }

  test("another pod's interface, and another pod's MAC address at the same bridge", async () => {
    const interfaces = new EndpointInterfaces(new Map());
    const got = await resolve(
      interfaces,
      endpoint(1, '10.0.0.11'),
      endpoint(2, '10.2.0.11', 'port'),
      endpoint(3, '10.0.0.13', 'ptp'),
      endpoint(4, '10.2.0.14', 'twin'),
    );
    assert.deepEqual([got[1], got[2]], ['ptp', 'port']);
    assert.match(got[3] ?? '', /ptp is the interface of Pod\/shop\/pod-1/);
    assert.match(got[4] ?? '', /02:00:00:00:00:11 is the one of another pod at the bridge cni0/);
  });

  const routerMac = '02:00:00:00:00:fe';
  /** Rows: state at the bridge of a trusted port when a pod with that MAC address comes. */
  const macs: readonly (readonly [
    name: string,
    mac: string,
    () => void | Promise<void>,
    RegExp,
  ])[] = [
    [
      'of who is behind a port that leads out',
      '02:00:00:00:00:ee',
      () => learn('02:00:00:00:00:ee', 'lxc'),
      /02:00:00:00:00:ee is one of a neighbour behind lxc, a port of the bridge cni0 that leads out/,
    ],
    [
      'of a router, though its own frames moved the forwarding entry to its port',
      routerMac,
      async () => {
        ip(
          'addr replace 192.168.8.1/24 dev cni0',
          'route replace 203.0.113.0/24 via 192.168.8.254',
          `neigh replace 192.168.8.254 lladdr ${routerMac} dev cni0 nud reachable`,
        );
        await learn(routerMac, 'twin');
      },
      /02:00:00:00:00:fe is the one of the router 192.168.8.254 at the bridge cni0/,
    ],
    [
      'of a router of the other family',
      routerMac,
      () => {
        ip(
          'route flush 203.0.113.0/24',
          `neigh replace fe80::fe lladdr ${routerMac} dev cni0 nud reachable`,
          'route replace 203.0.113.0/24 nexthop via inet6 fe80::fe dev cni0 nexthop via 192.168.8.253',
        );
      },
      /02:00:00:00:00:fe is the one of the router fe80::fe at the bridge cni0/,
    ],
    [
      "of the node's port",
      '02:00:00:00:00:cc',
      () => ip('link set lxc address 02:00:00:00:00:cc'),
      /02:00:00:00:00:cc is the one of lxc, a port of the bridge cni0/,
    ],
  ];
  for (const [name, mac, prepare, message] of macs) {
    test(`refused, by name: a MAC address ${name}`, async () => {
      ip('link set lxc master cni0');
      await pod.ip(['link set eth4 up']);
      await prepare();
      await pod.ip([`link set eth3 address ${mac}`]);
      const got = await resolve(
        new EndpointInterfaces(new Map()),
        endpoint(4, '10.2.0.14', 'twin'),
      );
      assert.match(got[4] ?? '', message);
      await pod.ip([`link set eth3 address ${portMac}`]);
    });
  }
  test('the same MAC address elsewhere is nobody’s at this bridge', async () => {
    ip(`neigh replace 192.168.9.2 lladdr 02:00:00:00:00:dd dev up0 nud reachable`);
    await pod.ip(['link set eth3 address 02:00:00:00:00:dd']);
    const got = await resolve(new EndpointInterfaces(new Map()), endpoint(4, '10.2.0.14', 'twin'));
    assert.equal(got[4], 'twin');
    await pod.ip([`link set eth3 address ${portMac}`]);
    attached.delete(ifindex('twin'));
    ip('link set lxc nomaster');
  });

  test('behind a bridge not without the MAC address of the pod, of an agent of before too', async () => {
    const unread = { ...sources(), peerMac: async () => null };
    const desired = [endpoint(2, '10.2.0.11', 'port')];
    const { found, problems } = await new EndpointInterfaces(new Map()).resolve(desired, unread);
    assert.equal(found.size, 0);
    assert.match(problems[0]?.message ?? '', /MAC address of the pod behind port cannot be read/);
    attached.add(ifindex('port'));
    const earlier = new Map<number, KnownInterface>([[2, { ifindex: ifindex('port'), mac: null }]]);
    const later = await new EndpointInterfaces(earlier).resolve(desired, sources());
    assert.deepEqual(later.found.get(2)?.mac, Uint8Array.of(2, 0, 0, 0, 0, 0x11));
  });

  test('kept for the life of the pod, whatever is said of it later; not for another pod', async () => {
    const interfaces = new EndpointInterfaces(new Map());
    assert.equal((await resolve(interfaces, endpoint(1, '10.0.0.11')))[1], 'ptp');
    assert.equal((await resolve(interfaces, endpoint(1, '10.0.0.11', 'stray')))[1], 'ptp');
    const known = new Map<number, KnownInterface>([[1, { ifindex: ifindex('ptp'), mac: null }]]);
    const later = await resolve(new EndpointInterfaces(known), endpoint(1, '10.0.0.99', 'stray'));
    assert.equal(later[1], 'ptp', 'by the process before this one');
    const other = await resolve(interfaces, endpoint(9, '10.0.0.11', 'stray'));
    assert.equal(other[9], 'stray');
  });

  test('an interface that went and one that has its index by now', async () => {
    const interfaces = new EndpointInterfaces(new Map());
    assert.equal((await resolve(interfaces, endpoint(1, '10.0.0.11')))[1], 'ptp');
    const index = ifindex('ptp');
    attached.delete(index); // as the kernel does
    ip('link del ptp', `link add new index ${index} type veth peer name eth0 netns ${pod.name}`);
    assert.equal((await resolve(interfaces, endpoint(1, '10.0.0.11')))[1], undefined);
    ip('link set new up', 'route add 10.0.0.11 dev new');
    assert.equal((await resolve(interfaces, endpoint(1, '10.0.0.11')))[1], 'new');
  });

  test('a pod whose interface went has ended; if it is listed for a minute more, that is a fault', async () => {
    let nowMs = 1000;
    const clock = { monotonicMs: () => nowMs };
    const lost = ifindex('new');
    const known = new Map<number, KnownInterface>([[1, { ifindex: lost, mac: null }]]);
    const interfaces = new EndpointInterfaces(known, clock);
    const ended = endpoint(1, '10.0.0.77');
    assert.equal((await resolve(interfaces, ended))[1], 'new');
    attached.delete(lost); // as the kernel does
    const told = async (...more: readonly EndpointDesired[]) => resolve(interfaces, ended, ...more);
    const never = await told(endpoint(2, '10.0.0.78'));
    assert.deepEqual(Object.keys(never), ['2'], 'a pod without an interface is told at once');
    nowMs += endedMsMax - 1;
    assert.deepEqual(await told(), {});
    nowMs += 1;
    assert.match((await told())[1] ?? '', /not-found: no route of the node leads to 10.0.0.77/);
    const byName = await resolve(
      new EndpointInterfaces(known, clock),
      endpoint(1, '10.0.0.77', 'lo'),
    );
    assert.match(byName[1] ?? '', /refused: lo is no veth/, 'what is refused is told at once');
  });

  test('what leads out, what is plugged into a bridge of pods, tunnels, and who nobody knows', async () => {
    ip('link set tap0 master cni0', 'link set own0 master cni0');
    await view.refresh();
    const { trusted, podBridges, tunnelPorts, unknown } = classifyDevices(
      view.state,
      options,
      (index) => index === ifindex('port'),
    );
    const named = (name: string): number => ifindex(name);
    assert.deepEqual(trusted.toSorted(), ['up0', 'lxc', 'tap0'].map(named).toSorted());
    assert.deepEqual(podBridges, ['cni0']);
    assert.deepEqual(tunnelPorts, [4789, 7777]);
    assert.deepEqual(unknown.map(({ name }) => name).toSorted(), ['new', 'own0', 'stray', 'twin']);
  });
});
