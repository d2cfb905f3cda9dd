// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { array, asyncProperty, boolean, assert as check, integer, oneof } from 'fast-check';
import { appendEcho, echoLoop } from '../test/echo.ts';
import { until } from '../test/wait.ts';
import { closeFd, localPort } from './fd.ts';
import { HEADER_TX_COUNT, RECORD_WORDS, TX_HANDLE, TX_RESULT } from './layout.ts';
import { createListener } from './listener.ts';

const seed = Number(process.env['TANDEM_FUZZ_SEED'] ?? 20_260_101);

test(`wrong arguments never crash (seed ${seed})`, () => {
  const directory = mkdtempSync(join(tmpdir(), 'tandem-junk-'));
  const script = new URL('../test/junk-calls.ts', import.meta.url).pathname;
  for (let round = 0; round < 3; round++) {
    const result = spawnSync(
      'unshare',
      [
        '--net',
        'sh',
        '-c',
        'ip link set lo up && exec "$0" "$@"',
        process.execPath,
        '--conditions=@tandem/source',
        script,
        `${seed + round}`,
        '20000',
      ],
      { cwd: directory, encoding: 'utf8', timeout: 60_000 },
    );
    assert.equal(result.status, 0, `seed ${seed + round}: ${result.signal} ${result.stderr}`);
    assert.equal(result.stdout, '20000 calls; never successful: executeAs\n');
  }
  rmSync(directory, { recursive: true });
});

test(`any words in the shared records are refused or sent (seed ${seed})`, async () => {
  let received = 0;
  using loop = echoLoop({
    buffer: new Uint8Array(8 * 256),
    slots: 8,
    slotBytes: 256,
    onBatch(handle, count) {
      received += count;
      for (let slot = 0; slot < count; slot++) appendEcho(loop, handle, slot);
    },
    onSocketError: () => {},
  });
  const fd = createListener({
    family: 4,
    protocol: 'udp',
    port: 0,
    mark: 0,
    markMask: 0,
    redirectMark: 0,
  });
  const handle = loop.add(fd, 'listener');
  const client = createSocket('udp4');
  client.connect(localPort(fd), '127.0.0.1');
  await once(client, 'connect');
  closeFd(fd);
  const word = oneof(integer({ min: 0, max: 4096 }), integer({ min: 0, max: 0xffff_ffff }));
  const record = array(word, { minLength: RECORD_WORDS, maxLength: RECORD_WORDS });
  await check(
    asyncProperty(
      array(record, { minLength: 1, maxLength: 8 }),
      array(record, { minLength: 1, maxLength: 32 }),
      array(boolean(), { minLength: 32, maxLength: 32 }),
      async (rx, tx, real) => {
        for (const [i, words] of rx.entries()) loop.rx.set(words, i * RECORD_WORDS);
        for (const [i, words] of tx.entries()) {
          // A destination on loopback, so that no datagram leaves the machine.
          loop.tx.set(
            [...words.slice(0, 8), 0, 0, 0xffff_0000, 0x0100_007f, 0, 0, 0, 0],
            i * RECORD_WORDS,
          );
          if (real[i]) loop.tx[i * RECORD_WORDS + TX_HANDLE] = handle;
        }
        loop.header[HEADER_TX_COUNT] = tx.length;
        const sent = loop.flush();
        const results = tx.map((_, i) => loop.tx[i * RECORD_WORDS + TX_RESULT]!);
        assert.equal(results.filter((result) => result === 0).length, sent);
        const before = received;
        client.send('x');
        await until(() => received > before, 'a datagram comes in whatever the records say');
      },
    ),
    { seed, numRuns: 300 },
  );
  client.close();
});
