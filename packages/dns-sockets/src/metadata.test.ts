// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The kernel's own record of a datagram, in the buffer before its payload; the lock that death releases. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { until } from '../test/wait.ts';
import { closeFd, localPort } from './fd.ts';
import * as layout from './layout.ts';
import { createListener } from './listener.ts';
import { PathLock } from './lock.ts';
import { UdpLoop } from './udp-loop.ts';

const families = { 4: [2, '127.0.0.1', 'udp4'], 6: [10, '::1', 'udp6'] } as const;

describe('metadata in the buffer', () => {
  for (const family of [4, 6] as const) {
    test(`of IPv${family}: the address of the peer, the same as in the record`, async () => {
      const [number, address, type] = families[family];
      const buffer = new Uint8Array(2048);
      let received = 0;
      using loop = new UdpLoop({
        buffer,
        slots: 2,
        slotBytes: 1024,
        metadataInBuffer: true,
        onBatch: (_, count) => {
          received += count;
        },
        onSocketError: assert.fail,
      });
      for (const i of [0, 1]) {
        loop.rx[i * layout.RECORD_WORDS + layout.RX_OFFSET] = i * 1024 + layout.META_BYTES;
        loop.rx[i * layout.RECORD_WORDS + layout.RX_CAPACITY] = 512;
      }
      const fd = createListener({
        family,
        protocol: 'udp',
        port: 0,
        mark: 0,
        markMask: 0,
        redirectMark: 0,
      });
      loop.add(fd, 'listener');
      const client = createSocket(type);
      client.send('hello', localPort(fd), address);
      await until(() => received === 1, 'the datagram is received');
      const view = new DataView(buffer.buffer);
      assert.equal(view.getUint16(0, true), number);
      assert.equal(view.getUint16(2), client.address().port);
      assert.equal(loop.rx[layout.RX_PEER_PORT], client.address().port);
      const peer = loop.rxBytes.subarray(layout.RX_PEER * 4, layout.RX_PEER * 4 + 16);
      const name = family === 4 ? buffer.subarray(4, 8) : buffer.subarray(8, 24);
      assert.deepEqual(name, family === 4 ? peer.subarray(12) : peer);
      assert.ok(
        buffer.subarray(layout.META_NAME_BYTES, layout.META_BYTES).some((byte) => byte !== 0),
      );
      assert.equal(Buffer.from(buffer.subarray(128, 133)).toString(), 'hello');
      client.close();
      closeFd(fd);
    });
  }

  test('a payload too near to the start of the buffer is rejected', async () => {
    const flags: number[] = [];
    using loop = new UdpLoop({
      buffer: new Uint8Array(1024),
      slots: 1,
      slotBytes: 512,
      metadataInBuffer: true,
      onBatch: () => flags.push(loop.rx[layout.RX_FLAGS]!),
      onSocketError: assert.fail,
    });
    loop.rx[layout.RX_OFFSET] = layout.META_BYTES - 1;
    const fd = createListener({
      family: 4,
      protocol: 'udp',
      port: 0,
      mark: 0,
      markMask: 0,
      redirectMark: 0,
    });
    loop.add(fd, 'listener');
    const client = createSocket('udp4');
    client.send('hello', localPort(fd), '127.0.0.1');
    await until(() => flags.length === 1, 'the datagram is received');
    assert.ok((flags[0]! & layout.RX_FLAG_REJECTED) !== 0);
    client.close();
    closeFd(fd);
  });
});

test('a lock is held by one process and released by its death', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'tandem-lock-'));
  try {
    const code = `import { PathLock } from ${JSON.stringify(new URL('lock.ts', import.meta.url).href)};
      if (PathLock.tryTake(${JSON.stringify(directory)}) === null) process.exit(1);
      process.stdout.write('held'); setInterval(() => undefined, 1000);`;
    const flags = ['--conditions=@tandem/source', '--input-type=module', '--eval', code];
    const holder = spawn(process.execPath, flags, { stdio: ['ignore', 'pipe', 'inherit'] });
    await once(holder.stdout, 'data');
    assert.equal(PathLock.tryTake(directory), null);
    holder.kill('SIGKILL');
    await once(holder, 'exit');
    using lock = PathLock.tryTake(directory);
    assert.ok(lock !== null);
  } finally {
    rmSync(directory, { recursive: true });
  }
  assert.throws(() => PathLock.tryTake(directory), { code: 'ENOENT' });
});
