// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { test } from 'node:test';
import { formatAddress, parseAddress } from '@tandem/core/net/ip';
import { insideNamespace } from '@tandem/testing/inside';
import { Conntrack } from './conntrack.ts';

const rules = `table inet t {
  chain output {
    type nat hook output priority -110;
    ip daddr 192.0.2.1 udp dport 53 dnat ip to 127.0.0.2:5353
    ip6 daddr 2001:db8::1 udp dport 53 dnat ip6 to [::1]:5353
  }
  chain tracked {
    type filter hook input priority 0;
    ct state invalid counter
  }
}
`;
const families = [
  { type: 'udp4', frontend: '192.0.2.1', backend: '127.0.0.2' },
  { type: 'udp6', frontend: '2001:db8::1', backend: '::1' },
] as const;
const bytesOf = (text: string): Uint8Array => parseAddress(text) as Uint8Array;

/** A datagram that arrived, so that its flow is in conntrack. */
async function send(from: Socket, to: Socket, port: number, address: string): Promise<void> {
  const arrived = once(to, 'message');
  from.send('x', port, address);
  await arrived;
}

/** One more datagram, as the server hears it. */
async function lastOf(server: Socket, from: Socket, frontend: string): Promise<unknown[]> {
  const arrived = once(server, 'message');
  from.send('x', 53, frontend);
  return arrived;
}

insideNamespace(import.meta, () => {
  for (const { type, frontend, backend } of families) {
    test(`${type}: what is translated to an address is forgotten, and nothing else`, async () => {
      execFileSync('ip', ['link', 'set', 'lo', 'up']);
      execFileSync('ip', [
        'route',
        'replace',
        `${frontend}/${type === 'udp4' ? 32 : 128}`,
        'dev',
        'lo',
        // Answers find the way back.
        ...['src', type === 'udp4' ? '127.0.0.1' : '::1'],
      ]);
      execFileSync('nft', ['-f', '-'], { input: rules });
      const server = createSocket(type).bind(5353, backend);
      await once(server, 'listening');
      const clients = [createSocket(type), createSocket(type), createSocket(type)] as const;
      try {
        await send(clients[0], server, 53, frontend);
        await send(clients[1], server, 53, frontend);
        await send(clients[2], server, 5353, backend);
        using conntrack = new Conntrack();
        assert.equal(await conntrack.forgetTranslated(bytesOf('203.0.113.9')), 0);
        assert.equal(await conntrack.forgetTranslated(bytesOf(frontend)), 0);
        const answer = once(clients[0], 'message');
        const [, sender] = (await lastOf(server, clients[0], frontend)) as [Buffer, RemoteInfo];
        server.send('y', sender.port, sender.address);
        await answer;
        const answered = (_: Uint8Array, isAnswered: boolean): boolean => isAnswered;
        const fromNobody = (from: Uint8Array): boolean => formatAddress(from) === '203.0.113.9';
        assert.equal(await conntrack.forgetTranslated(bytesOf(backend), fromNobody), 0);
        assert.equal(await conntrack.forgetTranslated(bytesOf(backend), answered), 1);
        assert.equal(await conntrack.forgetTranslated(bytesOf(backend)), 1);
        assert.equal(await conntrack.forgetTranslated(bytesOf(backend)), 0);
        // Led there by the rules again.
        await send(clients[0], server, 53, frontend);
        assert.equal(await conntrack.forgetTranslated(bytesOf(backend)), 1);
      } finally {
        for (const socket of [server, ...clients]) socket.close();
        execFileSync('nft', ['delete', 'table', 'inet', 't']);
      }
    });
  }
});
