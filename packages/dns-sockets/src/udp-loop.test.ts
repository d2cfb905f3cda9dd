// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { constants } from 'node:os';
import { after, before, describe, test } from 'node:test';
import { echoLoop, echoPair, openListener } from '../test/echo.ts';
import { openSockets, until } from '../test/wait.ts';
import { closeFd, localPort } from './fd.ts';
import * as layout from './layout.ts';
import { createListener } from './listener.ts';
import { UdpLoop } from './udp-loop.ts';
import { createUpstreamUdp } from './upstream.ts';

const { RECORD_WORDS, RECORD_BYTES, HEADER_TX_COUNT } = layout;
const { EBADF, EFAULT, EINVAL, EAFNOSUPPORT } = constants.errno;
const loopback4 = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 127, 0, 0, 1);
const loopback6 = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1);

/** Its memory is mapped, as a BPF map's is. (Declared here: the type comes with the DOM's only.) */
const { WebAssembly: webAssembly } = globalThis as unknown as {
  WebAssembly: { Memory: new (pages: { initial: number }) => { buffer: ArrayBuffer } };
};

describe('UdpLoop', () => {
  let socketsBefore = 0;
  before(() => {
    socketsBefore = openSockets();
  });
  after(async () => {
    await until(() => openSockets() === socketsBefore, 'every socket is closed');
  });

  for (const family of [4, 6] as const) {
    test(`echoes over IPv${family} from the address that was asked`, async () => {
      using loop = echoLoop();
      const fd = openListener(family);
      loop.add(fd, 'listener');
      const client = createSocket(family === 4 ? 'udp4' : 'udp6');
      const asked = family === 4 ? '127.9.8.7' : '::1';
      client.send('hello', localPort(fd), asked);
      const [message, info] = await once(client, 'message');
      assert.equal(String(message), 'hello');
      assert.equal(info.address, asked);
      assert.equal(loop.rx[layout.RX_PEER_PORT], client.address().port);
      assert.equal(loop.rx[layout.RX_DESTINATION_PORT], localPort(fd));
      assert.equal(loop.rx[layout.RX_FLAGS], layout.RX_FLAG_DESTINATION);
      assert.equal(loop.rx[layout.RX_IFINDEX], 1);
      const peer = loop.rxBytes.subarray(layout.RX_PEER * 4, layout.RX_PEER * 4 + 16);
      assert.deepEqual(peer, family === 4 ? loopback4 : loopback6);
      assert.ok(Math.abs(loop.clock[0]! - Number(process.hrtime.bigint())) < 10e9);
      client.close();
      closeFd(fd);
    });
  }

  test('a connected socket sends and receives, with its peer in each record', async () => {
    const server = createSocket('udp4').bind(0, '127.0.0.1');
    await once(server, 'listening');
    server.on('message', (message, info) => server.send(message, info.port, info.address));
    const { port } = server.address();
    let received = 0;
    const buffer = new Uint8Array(64 * 512);
    using loop = echoLoop({
      buffer,
      onBatch(_handle, count) {
        received += count;
      },
    });
    const fd = createUpstreamUdp({ address: loopback4, port });
    const handle = loop.add(fd, 'connected');
    closeFd(fd);
    loop.tx[layout.TX_HANDLE] = handle;
    loop.tx[layout.TX_OFFSET] = 1000;
    loop.tx[layout.TX_LENGTH] = 7;
    loop.header[HEADER_TX_COUNT] = 1;
    assert.equal(loop.flush(), 1);
    assert.equal(loop.header[HEADER_TX_COUNT], 0);
    await until(() => received === 1, 'the reply is here');
    assert.equal(loop.rx[layout.RX_LENGTH], 7);
    assert.equal(loop.rx[layout.RX_PEER_PORT], port);
    assert.equal(loop.rx[layout.RX_FLAGS], 0);
    server.close();
  });

  test('payloads land at the offsets that the caller permuted, also in mapped memory', async () => {
    const memories: Uint8Array[] = [
      new Uint8Array(64 * 512),
      new Uint8Array(new SharedArrayBuffer(64 * 512)),
      new Uint8Array(new webAssembly.Memory({ initial: 1 }).buffer, 4096, 64 * 512),
    ];
    for (const buffer of memories) {
      const places: string[] = [];
      const seen: string[] = [];
      using loop = echoLoop({
        buffer,
        slots: 64,
        onBatch(_handle, count) {
          for (let slot = 0; slot < count; slot++) {
            const offset = loop.rx[slot * RECORD_WORDS + layout.RX_OFFSET]!;
            const length = loop.rx[slot * RECORD_WORDS + layout.RX_LENGTH]!;
            seen.push(Buffer.from(buffer.slice(offset, offset + length)).toString());
            places.push(`${offset}`);
          }
        },
      });
      for (let slot = 0; slot < 64; slot++) {
        loop.rx[slot * RECORD_WORDS + layout.RX_OFFSET] = ((slot * 37 + 5) % 64) * 512 + slot;
        loop.rx[slot * RECORD_WORDS + layout.RX_CAPACITY] = 448;
      }
      const [, client] = await echoPair(loop);
      for (let i = 0; i < 200; i++) client.send(`payload ${i}`);
      await until(() => seen.length === 200, '200 datagrams are here');
      assert.deepEqual(
        seen,
        Array.from({ length: 200 }, (_, i) => `payload ${i}`),
      );
      assert.equal(places[0], `${5 * 512}`);
      client.close();
    }
  });

  test('a longer datagram is cut and flagged; a bad rx record costs the payload only', async () => {
    const flags: number[] = [];
    const lengths: number[] = [];
    using loop = echoLoop({
      buffer: new Uint8Array(4 * 16),
      slots: 4,
      slotBytes: 16,
      onBatch(_handle, count) {
        for (let slot = 0; slot < count; slot++) {
          flags.push(loop.rx[slot * RECORD_WORDS + layout.RX_FLAGS]!);
          lengths.push(loop.rx[slot * RECORD_WORDS + layout.RX_LENGTH]!);
        }
      },
    });
    const [, client] = await echoPair(loop);
    client.send('0123456789abcdefX');
    await until(() => flags.length === 1, 'the long one is here');
    for (const [offset, capacity] of [
      [0xffff_ffff, 16],
      [49, 16],
      [0, 0xffff_ffff],
    ] as const) {
      loop.rx[layout.RX_OFFSET] = offset;
      loop.rx[layout.RX_CAPACITY] = capacity;
      const earlier = flags.length;
      client.send('lost');
      await until(() => flags.length === earlier + 1, 'the next is here');
    }
    loop.rx[layout.RX_OFFSET] = 64;
    loop.rx[layout.RX_CAPACITY] = 0;
    client.send('');
    await until(() => flags.length === 5, 'the empty one is here');
    const destination = layout.RX_FLAG_DESTINATION;
    const rejected = destination | layout.RX_FLAG_REJECTED | layout.RX_FLAG_TRUNCATED;
    assert.deepEqual(flags, [
      destination | layout.RX_FLAG_TRUNCATED,
      rejected,
      rejected,
      rejected,
      destination,
    ]);
    assert.deepEqual(lengths, [16, 0, 0, 0, 0]);
    assert.equal(loop.stats().receiveRejected, 3);
    assert.equal(loop.stats().receivedTruncated, 4);
    client.close();
  });

  test('bad tx records are refused one by one, with a result each', async () => {
    let batches = 0;
    using loop = echoLoop({ slots: 4, onBatch: () => void (batches += 1) });
    using other = echoLoop();
    const [handle, client] = await echoPair(loop);
    const [foreign, otherClient] = await echoPair(other);
    const fd = openListener();
    const stale = loop.add(fd, 'listener');
    assert.equal(loop.remove(stale), true);
    assert.equal(loop.remove(stale), false);
    const again = loop.add(fd, 'listener');
    assert.notEqual(again, stale);
    const good = [handle, 0, 5, client.address().port, 0] as const;
    const rows: [words: readonly number[], address: Uint8Array, result: number][] = [
      [good, loopback4, 0],
      [[0, 0, 5, 53, 0], loopback4, EBADF],
      [[stale, 0, 5, 53, 0], loopback4, EBADF],
      [[foreign + 4096, 0, 5, 53, 0], loopback4, EBADF],
      [[0xffff_ffff, 0, 5, 53, 0], loopback4, EBADF],
      [[handle, 0xffff_ffff, 0xffff_ffff, 53, 0], loopback4, EFAULT],
      [[handle, 64 * 512 - 4, 5, 53, 0], loopback4, EFAULT],
      [[handle, 0, 5, 0, 0], loopback4, EINVAL],
      [[handle, 0, 5, 65_536, 0], loopback4, EINVAL],
      [[handle, 0, 5, 53, 0x8000_0000], loopback4, EINVAL],
      [[handle, 0, 5, 53, 0], loopback6, EAFNOSUPPORT],
      [[handle, 0, 32_000, 53, 0], loopback4, 0],
      [good, loopback4, 0],
    ];
    for (const [i, [words, address]] of rows.entries()) {
      loop.tx.fill(0, i * RECORD_WORDS, (i + 1) * RECORD_WORDS);
      loop.tx.set(words, i * RECORD_WORDS);
      loop.tx[i * RECORD_WORDS + layout.TX_RESULT] = 9999;
      loop.txBytes.set(address, i * RECORD_BYTES + layout.TX_DESTINATION * 4);
    }
    loop.header[HEADER_TX_COUNT] = rows.length;
    assert.equal(loop.flush(), rows.filter(([, , result]) => result === 0).length);
    const results = rows.map((_, i) => loop.tx[i * RECORD_WORDS + layout.TX_RESULT]);
    assert.deepEqual(
      results,
      rows.map(([, , result]) => result),
    );
    assert.equal(loop.stats().sendRejected, 10);
    // Over the capacity: what fits is looked at, the rest is counted.
    loop.tx.fill(0);
    loop.header[HEADER_TX_COUNT] = 0xffff_ffff;
    assert.equal(loop.flush(), 0);
    assert.equal(loop.stats().sendRejected, 10 + 0xffff_ffff);
    assert.equal(batches, 0);
    client.close();
    otherClient.close();
    closeFd(fd);
  });

  test('runs of alternating sockets keep their order', async () => {
    const got: string[] = [];
    const buffer = Buffer.alloc(64 * 512);
    using loop = echoLoop({ buffer });
    const server = createSocket('udp4').bind(0, '127.0.0.1');
    await once(server, 'listening');
    server.on('message', (message) => got.push(String(message)));
    const handles = [0, 1].map(() => {
      const fd = createUpstreamUdp({ address: loopback4, port: server.address().port });
      try {
        return loop.add(fd, 'connected');
      } finally {
        closeFd(fd);
      }
    });
    const want: string[] = [];
    for (let i = 0; i < 200; i++) {
      const text = String(i).padStart(3, '0');
      want.push(text);
      buffer.write(text, i * 3);
      loop.tx[i * RECORD_WORDS + layout.TX_HANDLE] = handles[i < 150 ? 0 : i & 1]!;
      loop.tx[i * RECORD_WORDS + layout.TX_OFFSET] = i * 3;
      loop.tx[i * RECORD_WORDS + layout.TX_LENGTH] = 3;
    }
    loop.header[HEADER_TX_COUNT] = 200;
    assert.equal(loop.flush(), 200);
    // 0..63, 64..127, 128..150, then each alone.
    assert.equal(loop.stats().sendCalls, 3 + 49);
    await until(() => got.length === 200, '200 datagrams are here');
    assert.deepEqual(got, want);
    server.close();
  });

  test('one wake takes at most two batches, and no datagram is lost in between', async () => {
    let received = 0;
    using loop = echoLoop({ slots: 2, onBatch: (_handle, count) => void (received += count) });
    const [, client] = await echoPair(loop);
    for (let i = 0; i < 400; i++) client.send('x');
    await until(() => received === 400, '400 datagrams are here');
    const { wakes, batches } = loop.stats();
    assert.ok(batches <= wakes * 2 && wakes >= 100, `${wakes} wakes, ${batches} batches`);
    client.close();
  });

  test('100,000 datagrams are answered or counted', async () => {
    using server = echoLoop();
    const fd = openListener();
    server.add(fd, 'listener');
    let back = 0;
    using client = echoLoop({ onBatch: (_handle, count) => void (back += count) });
    const up = createUpstreamUdp({ address: loopback4, port: localPort(fd) });
    const handle = client.add(up, 'connected');
    closeFd(up);
    closeFd(fd);
    const total = 100_000;
    let sent = 0;
    let turned = 0;
    const drops = (): number => server.stats().kernelDrops + client.stats().kernelDrops;
    while (sent < total) {
      const count = Math.min(client.txCapacity, total - sent);
      for (let i = 0; i < count; i++) {
        client.tx[i * RECORD_WORDS + layout.TX_HANDLE] = handle;
        client.tx[i * RECORD_WORDS + layout.TX_OFFSET] = 0;
        client.tx[i * RECORD_WORDS + layout.TX_LENGTH] = 40;
      }
      client.header[HEADER_TX_COUNT] = count;
      sent += client.flush();
      // Sometimes faster than the loop can be turned, so that the buffers overflow, too.
      turned += 1;
      if (turned % 150 === 0) await until(() => back + drops() === sent, 'all are accounted for');
    }
    await until(() => back + drops() === sent, 'all are accounted for');
    assert.ok(drops() > 0, 'no buffer overflowed: the count was not put to the test');
    const { sendDropped, sendFailed, sendRejected, receiveRejected } = server.stats();
    assert.deepEqual([sendDropped, sendFailed, sendRejected, receiveRejected], [0, 0, 0, 0]);
    assert.equal(server.stats().sent, server.stats().received);
  });

  test('what is no UDP socket is refused', () => {
    using loop = echoLoop();
    const tcp = createListener({
      family: 4,
      protocol: 'tcp',
      port: 0,
      mark: 0,
      markMask: 0,
      redirectMark: 0,
    });
    const udp = openListener();
    assert.throws(() => loop.add(tcp, 'listener'), { errnoName: 'EPROTOTYPE' });
    assert.throws(() => loop.add(udp, 'connected'), { errnoName: 'ENOTCONN' });
    assert.throws(() => loop.add(1_000_000, 'listener'), { errnoName: 'EBADF' });
    assert.throws(() => loop.add(-1, 'listener'), { code: 'TANDEM_SOCKET_ARGUMENT' });
    assert.throws(() => new UdpLoop({ ...noCallbacks, slotBytes: 513, slots: 64 }), RangeError);
    assert.throws(() => new UdpLoop({ ...noCallbacks, slotBytes: 1, slots: 257 }), RangeError);
    closeFd(tcp);
    closeFd(udp);
  });
});

const noCallbacks = {
  buffer: new Uint8Array(64 * 512),
  onBatch: () => {},
  onSocketError: () => {},
};
