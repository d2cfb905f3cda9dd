// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatAddress } from '../net/ip.ts';
import { tunnelAnnotations } from './objects.ts';
import { parseObject } from './parse-object.ts';

test('Node: ends of tunnels that CNIs name in annotations are its addresses', () => {
  const metadata = {
    name: 'one',
    annotations: {
      'projectcalico.org/IPv4IPIPTunnelAddr': '10.244.1.1',
      'projectcalico.org/IPv4VXLANTunnelAddr': '10.244.1.2',
      'projectcalico.org/IPv6VXLANTunnelAddr': 'fd00:244:1::2',
      'projectcalico.org/IPv4WireguardInterfaceAddr': '10.244.1.3',
      'projectcalico.org/IPv6WireguardInterfaceAddr': 'fd00:244:1::3',
      'network.cilium.io/ipv4-cilium-host': '10.244.1.4',
      'network.cilium.io/ipv6-cilium-host': 'fd00:244:1::4',
      'projectcalico.org/IPv4Address': '192.0.2.9/24',
    },
  };
  const status = { addresses: [{ type: 'InternalIP', address: '192.0.2.1' }] };
  const texts = (annotations: object): string[] => {
    const parsed = parseObject({
      ...{ apiVersion: 'v1', kind: 'Node', status },
      metadata: { ...metadata, annotations },
    });
    assert(parsed.ok && parsed.value.kind === 'Node');
    return parsed.value.addresses.map((each) => formatAddress(each));
  };
  const ends = Object.values(metadata.annotations).slice(0, -1);
  assert.equal(ends.length, tunnelAnnotations.length);
  assert.deepEqual(texts(metadata.annotations), ['192.0.2.1', ...ends]);
  for (const name of tunnelAnnotations) {
    assert.deepEqual(texts({ [name]: '198.51.100.7' }), ['192.0.2.1', '198.51.100.7'], name);
    assert.deepEqual(texts({ [name]: '' }), ['192.0.2.1'], name);
    const parsed = parseObject({
      ...{ apiVersion: 'v1', kind: 'Node', status },
      metadata: { ...metadata, annotations: { [name]: '10.0.0.1/24' } },
    });
    assert(!parsed.ok, name);
    assert.deepEqual(
      parsed.error.issues.map(({ path }) => path),
      [`metadata.annotations.${name}`],
    );
  }
});
