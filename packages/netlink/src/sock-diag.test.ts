// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { test } from 'node:test';
import { formatAddress } from '@tandem/core/net/ip';
import { insideNamespace } from '@tandem/testing/inside';
import { SocketDiagnostics } from './sock-diag.ts';

const port = 10_053;

insideNamespace(import.meta, () => {
  test('bound sockets are those of ss, at that port alone', async () => {
    const udp = createSocket('udp6').bind(port, '::1');
    await once(udp, 'listening');
    const connected = createSocket({ type: 'udp4', reuseAddr: true }).bind(port, '127.0.0.1');
    await once(connected, 'listening');
    connected.connect(9, '127.0.0.1');
    await once(connected, 'connect');
    const other = createSocket('udp4').bind(port + 1, '127.0.0.1');
    await once(other, 'listening');
    const tcp = createServer().listen(port, '127.0.0.1');
    await once(tcp, 'listening');
    using diagnostics = new SocketDiagnostics();
    const found = await diagnostics.boundTo(port);
    const texts = found.map((each) => {
      const address = each.address === null ? '' : formatAddress(each.address);
      return `${each.protocol} ${address} ino:${each.inode} sk:${each.cookie.toString(16)}`;
    });
    const ss = execFileSync('ss', ['-H', '-lnute', `sport = :${port}`], { encoding: 'utf8' });
    const expected = ss
      .trim()
      .split('\n')
      .map((line) => {
        const [protocol, , , , local = ''] = line.split(/\s+/);
        const address = local.slice(0, local.lastIndexOf(':')).replaceAll(/[[\]]/g, '');
        return `${protocol} ${address} ${/ino:\d+/.exec(line)?.[0]} ${/sk:[0-9a-f]+/.exec(line)?.[0]}`;
      });
    assert.deepEqual(texts.sort(), expected.sort());
    assert.equal(texts.length, 2);
    assert.deepEqual(
      found.map(({ uid }) => uid),
      [0, 0],
    );
    assert.deepEqual(await diagnostics.boundTo(port + 2), []);
    for (const socket of [udp, connected, other, tcp]) socket.close();
  });
});
