// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A pod that was there before the agent says routes and prefixes to the node: none of them makes its interface an
 * uplink or another pod's, nor an address the node's. Real advertisements from the pod's end of the veth, on a node that accepts them.
 */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, test } from 'node:test';
import { formatAddress } from '@tandem/core/net/ip';
import { NetworkView } from '@tandem/netlink/network-view';
import { insideNamespace } from '@tandem/testing/inside';
import { Namespace } from '@tandem/testing/namespace';
import { buildPacket } from '@tandem/testing/packet';
import { type AdvertisedPrefix, routerAdvertisement } from '@tandem/testing/packet-ndp';
import { Probe } from '@tandem/testing/probe';
import { waitFor } from '@tandem/testing/wait';
import { LocalAddresses } from '../node/local-addresses.ts';
import { classifyDevices } from './node-devices.ts';
import { findInterface } from './pod-interface.ts';

const ip = (...commands: readonly string[]): void => {
  execFileSync('ip', ['-batch', '-'], { input: `${commands.join('\n')}\n` });
};
const options = { trustedInterfaces: [], podBridges: [], tunnelPorts: [] };
const ghostMac = '02:00:00:00:00:66';
const victim4 = '10.0.0.22';
const victim6 = 'fd00::22';
let ghostPod: Namespace;
let victimPod: Namespace;
let ghost: Probe;
let view: NetworkView;

interface RouteJson {
  readonly dst: string;
  readonly dev: string;
  readonly protocol: string;
}

/** Sends the advertisement until the kernel has made all routes of it, given as "DESTINATION PROTOCOL". */
async function advertise(
  prefixes: readonly AdvertisedPrefix[],
  ...made: readonly string[]
): Promise<void> {
  const at = {
    source: 'fe80::bad',
    destination: 'ff02::1',
    sourceMac: ghostMac,
    destinationMac: '33:33:00:00:00:01',
  };
  const frame = buildPacket(routerAdvertisement(at, 1800, prefixes));
  await waitFor(
    async () => {
      await ghost.frame(frame);
      const output = execFileSync('ip', ['-6', '-j', '-d', 'route', 'show', 'dev', 'ghost0']);
      const routes = (JSON.parse(output.toString()) as readonly RouteJson[]).map(
        ({ dst, protocol }) => `${dst} ${protocol}`,
      );
      return made.every((route) => routes.includes(route));
    },
    { what: made.join(', ') },
  );
  await view.refresh();
}

/** Names of veths that lead out. */
function trusted(): readonly string[] {
  return classifyDevices(view.state, options, () => false).trusted.map(
    (ifindex) => view.state.links.get(ifindex)?.name ?? `${ifindex}`,
  );
}

const interfaceOf = (addressText: string): string => {
  const found = findInterface(view.state, { addressText }, () => false);
  return 'link' in found ? found.link.name : found.problem;
};

insideNamespace(import.meta, () => {
  before(async () => {
    ghostPod = await Namespace.create('ghost');
    victimPod = await Namespace.create('victim');
    for (const kind of ['all', 'default']) {
      const prefix = `net.ipv6.conf.${kind}`;
      execFileSync('sysctl', ['-qw', `${prefix}.forwarding=1`, `${prefix}.accept_ra=2`]);
      execFileSync('sysctl', ['-qw', `${prefix}.accept_ra_rt_info_max_plen=128`]);
      execFileSync('sysctl', ['-qw', `${prefix}.accept_dad=0`]);
    }
    ip(
      `link add ghost0 type veth peer name eth0 address ${ghostMac} netns ${ghostPod.name}`,
      `link add victim0 type veth peer name eth0 netns ${victimPod.name}`,
      'tuntap add eth9 mode tap',
      ...['ghost0', 'victim0', 'eth9'].map((name) => `link set ${name} up`),
      `route add ${victim4} dev victim0`,
      `route add ${victim6} dev victim0`,
    );
    await ghostPod.ip(['link set eth0 up']);
    await victimPod.ip(['link set eth0 up']);
    ghost = Probe.start(ghostPod);
    view = await NetworkView.open();
  });
  after(async () => {
    view.close();
    await ghost[Symbol.asyncDispose]();
    await ghostPod[Symbol.asyncDispose]();
    await victimPod[Symbol.asyncDispose]();
  });

  test('as a router, of everything or of a prefix, it is no uplink', async () => {
    await advertise([], 'default ra');
    assert.deepEqual(trusted(), []);
    const routed = { prefix: '2001:db8:7::', length: 48, by: 'router' } as const;
    await advertise([routed], '2001:db8:7::/48 ra');
    assert.deepEqual(trusted(), []);
  });

  test('as a link on which every address is, it is no uplink', async () => {
    await advertise([{ prefix: '::', length: 0, by: 'link' }], 'default kernel');
    assert.deepEqual(trusted(), []);
  });

  test("as the link or the way to another pod's address, it has not that pod's interface", async () => {
    await advertise([{ prefix: victim6, length: 128, by: 'link' }], `${victim6} kernel`);
    assert.equal(interfaceOf(victim6), 'victim0');
    await advertise([{ prefix: 'fd00::33', length: 128, by: 'link' }], 'fd00::33 kernel');
    assert.match(interfaceOf('fd00::33'), /no route of the node leads to fd00::33 alone/);
    await advertise([{ prefix: 'fd00::44', length: 128, by: 'router' }], 'fd00::44 ra');
    assert.match(interfaceOf('fd00::44'), /no route of the node leads to fd00::44 alone/);
    assert.deepEqual(trusted(), []);
  });

  test('by a redirect to itself it is no uplink, and has no address of another', async () => {
    const redirected = ['2001:db8:77::/48', 'default', 'fd00::55'];
    const route = (verb: 'add' | 'del', destination: string): unknown =>
      execFileSync('ip', [
        ...['-6', 'route', verb, destination, 'via', 'fe80::bad', 'dev', 'ghost0'],
        ...['proto', 'redirect', 'metric', '10'],
      ]);
    for (const destination of redirected) {
      route('add', destination);
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await view.refresh();
      assert.deepEqual(trusted(), [], destination);
    }
    assert.match(interfaceOf('fd00::55'), /no route of the node leads to fd00::55 alone/);
    for (const destination of redirected) route('del', destination);
    await view.refresh();
  });

  test('an address that it gave the node is none of entity host', async () => {
    const prefix = { prefix: '2001:db8:9::', length: 64, by: 'own address' } as const;
    await advertise([prefix], '2001:db8:9::/64 kernel');
    const text = (bytes: Uint8Array): string => formatAddress(bytes);
    await waitFor(
      () => [...view.state.addresses].some((each) => text(each.address).startsWith('2001:db8:9:')),
      { what: 'the address' },
    );
    ip('addr add 2001:db8:9::1/128 dev ghost0 nodad');
    await view.refresh();
    const local = new LocalAddresses(view).get().map(text);
    assert.deepEqual(
      local.filter((each) => each.startsWith('2001:db8:9:')),
      ['2001:db8:9::1'],
      'the one that the operator gave',
    );
  });

  test('a DHCP server at a veth makes it an uplink where nothing else leads out, and no host route', async () => {
    const refreshed = async (...commands: readonly string[]): Promise<readonly string[]> => {
      ip(...commands);
      await view.refresh();
      return trusted();
    };
    const leased = [
      'addr add 10.66.0.9/24 dev ghost0',
      'route add default via 10.66.0.1 proto dhcp',
    ];
    assert.deepEqual(await refreshed(...leased), ['ghost0'], 'a node in a container');
    const noRoute = `route add 10.0.0.33 dev ghost0 proto dhcp`;
    await refreshed(noRoute);
    assert.match(interfaceOf('10.0.0.33'), /no route of the node leads/);
    const elsewhere = 'via 10.67.0.1 metric 50 proto';
    await refreshed('addr add 10.67.0.9/24 dev eth9');
    for (const protocol of ['dhcp', 'ra', 'static']) {
      assert.deepEqual(await refreshed(`route add default ${elsewhere} ${protocol}`), [], protocol);
      assert.deepEqual(await refreshed(`route del default ${elsewhere} ${protocol}`), ['ghost0']);
    }
    const byHand = 'default via 10.68.0.1 metric 60';
    await refreshed('addr add 10.68.0.9/24 dev victim0');
    assert.deepEqual(
      await refreshed(`route add ${byHand}`),
      ['victim0'],
      'the node itself says so',
    );
    await refreshed(`route del ${byHand}`, 'addr del 10.68.0.9/24 dev victim0');
  });
});
