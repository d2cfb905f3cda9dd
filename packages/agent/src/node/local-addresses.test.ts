// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { formatAddress } from '@tandem/core/net/ip';
import { insideNamespace } from '@tandem/testing/inside';
import { LocalAddresses } from './local-addresses.ts';

const ip = (command: string): string =>
  execFileSync('ip', command.split(' '), { encoding: 'utf8' });

insideNamespace(import.meta, () => {
  ip('link set lo up');
  const loopback = ['127.0.0.1', '::1'];
  const local = new LocalAddresses();
  const texts = (): string[] => local.get().map((address) => formatAddress(address));

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
    await local.refresh();
    const down = ['10.96.0.10', '169.254.20.10', 'fd00:53::10'];
    const want = [...loopback, ...down, '172.17.0.1', '192.0.2.1', '2001:db8::1'];
    assert.deepEqual(texts().sort(), want.sort());
  });

  test('ClusterIPs on the interface of IPVS are no addresses of the node, up or down', async () => {
    ip('link add kube-ipvs0 type bridge');
    ip('addr add 10.96.0.99/32 dev kube-ipvs0');
    await local.refresh();
    assert.ok(!texts().includes('10.96.0.99'));
    ip('link add port0 type veth peer name port1');
    ip('link set port0 master kube-ipvs0');
    for (const name of ['port0', 'port1', 'kube-ipvs0']) ip(`link set ${name} up`);
    await local.refresh();
    assert.ok(!texts().includes('10.96.0.99'));
  });

  test('an address that is gone is forgotten with the next look, not before', async () => {
    ip('addr del 192.0.2.1/24 dev up0');
    ip('link del nodelocaldns');
    assert.ok(texts().includes('192.0.2.1') && texts().includes('169.254.20.10'));
    await local.refresh();
    assert.ok(!texts().includes('192.0.2.1') && !texts().includes('169.254.20.10'));
  });

  test('an address that is new on an interface that runs is known at once', () => {
    ip('addr add 192.0.2.2/24 dev up0');
    assert.equal(texts().filter((text) => text === '192.0.2.2').length, 1);
  });

  test('an interface that goes down keeps its address, before and after the next look', async () => {
    await local.refresh();
    ip('link set up0 down');
    assert.ok(texts().includes('192.0.2.2'));
    await local.refresh();
    assert.equal(texts().filter((text) => text === '192.0.2.2').length, 1);
  });
});
