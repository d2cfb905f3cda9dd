// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { formatAddress } from '@tandem/core/net/ip';
import { NetworkView } from '@tandem/netlink/network-view';
import { insideNamespace } from '@tandem/testing/inside';
import { Namespace } from '@tandem/testing/namespace';
import { waitFor } from '@tandem/testing/wait';
import { LocalAddresses } from './local-addresses.ts';

const ip = (command: string): string =>
  execFileSync('ip', command.split(' '), { encoding: 'utf8' });

insideNamespace(import.meta, () => {
  ip('link set lo up');
  const loopback = ['127.0.0.1', '::1'];
  let view: NetworkView;
  let local: LocalAddresses;
  let changes = 0;
  const texts = (): string[] => local.get().map((address) => formatAddress(address));
  const until = (what: string, isSo: () => boolean): Promise<true> => waitFor(isSo, { what });

  before(async () => {
    view = await NetworkView.open();
    local = new LocalAddresses(view);
    local.onChange(() => {
      changes += 1;
    });
  });
  after(() => view.close());

  test('interfaces that run, that are down, and one without a peer', async () => {
    ip('link add up0 type veth peer name up1');
    for (const name of ['up0', 'up1']) ip(`link set ${name} up`);
    ip('addr add 192.0.2.1/24 dev up0');
    ip('addr add 2001:db8::1/64 dev up0 nodad');
    // As NodeLocal DNSCache has it, which is a dummy there.
    ip('link add nodelocaldns type bridge');
    ip('addr add 169.254.20.10/32 dev nodelocaldns');
    ip('addr add 10.96.0.10/32 dev nodelocaldns');
    ip('addr add fd00:53::10/128 dev nodelocaldns');
    // Up, but without carrier, as docker0 without containers.
    ip('link add docker0 type bridge');
    ip('addr add 172.17.0.1/16 dev docker0');
    ip('link set docker0 up');
    const down = ['10.96.0.10', '169.254.20.10', 'fd00:53::10'];
    const want = [...loopback, ...down, '172.17.0.1', '192.0.2.1', '2001:db8::1'];
    await until('all addresses', () => texts().sort().join() === want.sort().join());
    await until('the change is told', () => changes > 0);
  });

  test('ClusterIPs on the interface of IPVS are no addresses of the node, up or down', async () => {
    ip('link add kube-ipvs0 type bridge');
    ip('addr add 10.96.0.99/32 dev kube-ipvs0');
    await view.refresh();
    assert.ok(!texts().includes('10.96.0.99'));
    ip('link add port0 type veth peer name port1');
    ip('link set port0 master kube-ipvs0');
    for (const name of ['port0', 'port1', 'kube-ipvs0']) ip(`link set ${name} up`);
    await view.refresh();
    assert.ok(!texts().includes('10.96.0.99'));
  });

  test('an address that somebody else was found to have is not the node’s', async () => {
    const accept = '/proc/sys/net/ipv6/conf';
    for (const name of ['up0', 'up1']) writeFileSync(`${accept}/${name}/accept_dad`, '1');
    ip('addr add 2001:db8::99/64 dev up1 nodad');
    const count = (): number => texts().filter((text) => text === '2001:db8::99').length;
    await until('the first has it', () => count() === 1);
    ip('addr add 2001:db8::99/64 dev up0');
    const failed = (): boolean => ip('-6 addr show dev up0').includes('dadfailed');
    await until('the second is refused', failed);
    ip('addr del 2001:db8::99/64 dev up1');
    await until('nobody has it', () => count() === 0);
    ip('addr del 2001:db8::99/64 dev up0');
  });

  test('an address that is gone, alone or with its interface, is forgotten', async () => {
    ip('addr del 192.0.2.1/24 dev up0');
    ip('link del nodelocaldns');
    await until('both are gone', () => !/192\.0\.2\.1|169\.254/.test(texts().join()));
  });

  test('an interface that goes down keeps its address', async () => {
    ip('addr add 192.0.2.2/24 dev up0');
    await until('it is there', () => texts().includes('192.0.2.2'));
    ip('link set up0 down');
    await view.refresh();
    assert.equal(texts().filter((text) => text === '192.0.2.2').length, 1);
  });

  test('interfaces that come and go with link-local addresses alone are no change', async () => {
    await view.refresh();
    const known = changes;
    ip('link add pod0 type veth peer name pod1');
    for (const name of ['pod0', 'pod1']) ip(`link set ${name} up`);
    await until('a link-local address', () =>
      [...view.state.addresses].some(
        ({ ifindex }) => ifindex === view.state.linkByName('pod0')?.ifindex,
      ),
    );
    ip('link del pod0');
    ip('addr add 192.0.2.3/32 dev lo');
    await until('a real one is told', () => changes > known);
    assert.equal(changes, known + 1);
  });

  const atBridges = (): string[] =>
    local
      .atBridges()
      .map((each) => formatAddress(each))
      .sort();

  test('link-local addresses at a bridge, by hand and random, of interfaces on top of it, and of its routers', async () => {
    ip('link add cni0 type bridge');
    ip('link add cni1 type bridge');
    // IN6_ADDR_GEN_MODE_RANDOM
    writeFileSync('/proc/sys/net/ipv6/conf/cni1/addr_gen_mode', '3');
    ip('link add top0 link cni0 type macvlan');
    ip('link add own0 type veth peer name own1');
    ip('link set own1 master cni0');
    // A bridge without a port has no carrier, and makes no address.
    ip('link add tap0 type veth peer name tap1');
    ip('link set tap0 master cni1');
    for (const name of ['cni0', 'cni1', 'top0', 'own0', 'own1', 'tap0', 'tap1']) {
      ip(`link set ${name} up`);
    }
    ip('addr add fe80::1/64 dev cni0 nodad');
    ip('addr add fe80::7/64 dev top0 nodad');
    ip('addr add fe80::b/64 dev own0 nodad');
    for (const name of ['up0', 'up1']) ip(`link set ${name} up`);
    ip('addr add fe80::a/64 dev up1 nodad');
    ip('-6 route add 2001:db8:1::/48 via fe80::f1 dev cni0');
    ip('-6 route add 2001:db8:2::/48 via fe80::f2 dev cni0 proto ra');
    ip('-6 route add 2001:db8:3::/48 via fe80::f3 dev up0');
    const random = (): string | undefined =>
      [...view.state.addresses]
        .filter(({ ifindex }) => ifindex === view.state.linkByName('cni1')?.ifindex)
        .map(({ address }) => formatAddress(address))
        .find((text) => text.startsWith('fe80'));
    await until('the random address', () => random() !== undefined);
    const byHand = ['fe80::1', 'fe80::7', 'fe80::b', 'fe80::f1', 'fe80::f2'];
    const want = [...byHand, random() ?? ''];
    await until('all of them', () => want.every((each) => atBridges().includes(each)));
    for (const other of ['fe80::a', 'fe80::f3', '2001:db8::1']) {
      assert.ok(!atBridges().includes(other), other);
    }
    assert.ok(!texts().some((text) => text.startsWith('fe80')), 'none is an address of the host');
  });

  test('a link-local address at a bridge that goes is told, and so is its router', async () => {
    await view.refresh();
    const known = changes;
    ip('addr del fe80::1/64 dev cni0');
    await until('the address', () => changes > known && !atBridges().includes('fe80::1'));
    const later = changes;
    ip('-6 route del 2001:db8:2::/48');
    await until('the router', () => changes > later && !atBridges().includes('fe80::f2'));
  });

  test('a pod at a bridge that comes and goes is no change', async () => {
    await view.refresh();
    const known = changes;
    await using pod = await Namespace.create('pod');
    ip(`link add pod0 type veth peer name eth0 netns ${pod.name}`);
    ip('link set pod0 up');
    await pod.ip(['link set eth0 up']);
    await until('its address', () =>
      [...view.state.addresses].some(
        ({ ifindex }) => ifindex === view.state.linkByName('pod0')?.ifindex,
      ),
    );
    ip('link set pod0 master cni0');
    await until('the port', () => view.state.linkByName('pod0')?.master !== 0);
    ip('link del pod0');
    ip('addr add 192.0.2.4/32 dev lo');
    await until('a real one is told', () => changes > known);
    assert.equal(changes, known + 1);
  });
});
