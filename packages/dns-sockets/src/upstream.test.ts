// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { describe, test } from 'node:test';
import { openSockets } from '../test/wait.ts';
import { closeFd, localPort } from './fd.ts';
import { createUpstreamUdp } from './upstream.ts';

const loopback4 = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 127, 0, 0, 1);
const loopback6 = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1);

describe('createUpstreamUdp', () => {
  test('ports are spread over 1024..65535', () => {
    const draws = 4000;
    const buckets = new Array<number>(16).fill(0);
    const seen = new Set<number>();
    for (let i = 0; i < draws; i++) {
      const fd = createUpstreamUdp({ address: i % 2 === 0 ? loopback4 : loopback6, port: 53 });
      const port = localPort(fd);
      closeFd(fd);
      assert.ok(port >= 1024 && port <= 65_535, `${port}`);
      seen.add(port);
      const bucket = Math.floor(((port - 1024) * 16) / (65_536 - 1024));
      buckets[bucket] = buckets[bucket]! + 1;
    }
    // Chi-squared with 15 degrees of freedom: above 60 once in two million runs.
    const expected = draws / 16;
    const chiSquared = buckets.reduce((sum, n) => sum + (n - expected) ** 2 / expected, 0);
    assert.ok(chiSquared < 60, `chi-squared ${chiSquared}: ${buckets.join(' ')}`);
    // 4,000 draws of 64,512 leave about 3,879 different ones (standard deviation about 11).
    assert.ok(seen.size > 3800, `${seen.size} different ports`);
  });

  test('reserved ports are left alone', () => {
    const ports = portsOf('1024-39999,40500-65535', 40);
    let bound = 0;
    for (const port of ports) {
      if (port === 'EADDRINUSE') continue; // 256 draws found none of the 500
      assert.ok(typeof port === 'number' && port >= 40_000 && port < 40_500, `${port}`);
      bound += 1;
    }
    assert.ok(bound > 10, `${bound} bound`);
  });

  for (const { what, last, isFree } of [
    { what: 'longer than a page', last: 4023, isFree: (port: number) => port < 4024 },
    { what: 'as long as it can be', last: 65_535, isFree: () => true },
  ]) {
    test(`no port of a list that is ${what} is drawn`, () => {
      const odd = Array.from({ length: (last - 1) / 2 }, (_, i) => 2 * i + 3);
      const rest = last < 65_535 ? [`${last + 1}-65535`] : [];
      const reserved = [...odd, ...rest].join(',');
      assert.ok(reserved.length > 4096, `${reserved.length} characters`);
      for (const port of portsOf(reserved, 30)) {
        if (port === 'EADDRINUSE') continue; // 256 draws found none that is free
        assert.ok(typeof port === 'number' && port % 2 === 0 && isFree(port), `${port}`);
      }
    });
  }

  test('no query is sent from a tunnel port of nodes, to which no pod may answer', () => {
    // All others are reserved. Of 1,500 times 256 draws about 35 would find one of the six.
    const ports = portsOf(allBut([4789, 4800, 5555, 6081, 6784, 8472]), 1500);
    assert.deepEqual(new Set(ports), new Set(['EADDRINUSE']));
  });

  test('a source address is used, a wrong family is not', async () => {
    const server = createSocket('udp4').bind(0, '127.0.0.1');
    await once(server, 'listening');
    const source = Uint8Array.from(loopback4);
    source[13] = 55;
    const fd = createUpstreamUdp({
      address: loopback4,
      port: server.address().port,
      source,
      mark: 0x40,
    });
    // dgram adopts nothing connected, so the connection is seen from the server's side.
    server.connect(localPort(fd), '127.55.0.1');
    await once(server, 'connect');
    closeFd(fd);
    server.close();
    assert.throws(() => createUpstreamUdp({ address: loopback4, port: 53, source: loopback6 }), {
      code: 'TANDEM_SOCKET_ARGUMENT',
    });
  });

  test('a failure leaves no socket behind', () => {
    const before = openSockets();
    const address = Uint8Array.from(loopback4);
    address.set([255, 255, 255, 255], 12); // broadcast: connect refuses it
    for (let i = 0; i < 20; i++) {
      assert.throws(() => createUpstreamUdp({ address, port: 53 }), {
        code: 'TANDEM_SOCKET_SYSTEM',
        syscall: 'connect',
      });
    }
    assert.equal(openSockets(), before);
  });
});

/** Ports from 1024 on, as the kernel's list has them, without these, which ascend. */
function allBut(ports: readonly number[]): string {
  const ends = [1023, ...ports, 65_536];
  return ends
    .slice(1)
    .map((port, i) => `${ends[i]! + 1}-${port - 1}`)
    .join(',');
}

/** The list in lines of less than a page, which the kernel takes with one write each. */
function inParts(reserved: string): string {
  return reserved.replaceAll(/(.{1,4000})(?:,|$)/g, '$1\n');
}

/** Ports of so many sockets, or why there is none, in a network namespace of its own with these reserved. */
function portsOf(reserved: string, count: number): (number | string)[] {
  const script = `
    import { createUpstreamUdp } from '${new URL('./upstream.ts', import.meta.url).href}';
    import { closeFd, localPort } from '${new URL('./fd.ts', import.meta.url).href}';
    const ports = [];
    for (let i = 0; i < ${count}; i++) {
      try {
        const fd = createUpstreamUdp({ address: Uint8Array.of(0,0,0,0,0,0,0,0,0,0,255,255,127,0,0,1), port: 53 });
        ports.push(localPort(fd));
        closeFd(fd);
      } catch (error) {
        ports.push(error.errnoName);
      }
    }
    console.log(JSON.stringify(ports));`;
  const result = spawnSync(
    'unshare',
    [
      '--net',
      'sh',
      '-c',
      'ip link set lo up && while read -r line; do echo $line; done > /proc/sys/net/ipv4/ip_local_reserved_ports && exec "$0" "$@"',
      process.execPath,
      '--conditions=@tandem/source',
      '--input-type=module',
      '-e',
      script,
    ],
    { encoding: 'utf8', timeout: 20_000, input: inParts(reserved) },
  );
  assert.equal(result.status, 0, result.stderr);
  const ports = JSON.parse(result.stdout) as (number | string)[];
  assert.equal(ports.length, count);
  return ports;
}
