// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Run by udp-loop.test.ts: onBatch appends an answer and throws. `handled`: two datagrams, two
 * exceptions caught by the process, and no answer leaves.
 */

import { createSocket } from 'node:dgram';
import { closeFd, localPort } from '../src/fd.ts';
import { createListener } from '../src/listener.ts';
import type { UdpLoop } from '../src/udp-loop.ts';
import { appendEcho, echoLoop } from './echo.ts';

const client = createSocket('udp4');
const loop: UdpLoop = echoLoop({
  onBatch(handle) {
    appendEcho(loop, handle, 0);
    throw new Error('batch refused');
  },
});
const fd = createListener({
  family: 4,
  protocol: 'udp',
  port: 0,
  mark: 0,
  markMask: 0,
  redirectMark: 0,
});
const port = localPort(fd);
loop.add(fd, 'listener');
closeFd(fd);

if (process.argv[2] === 'handled') {
  let caught = 0;
  process.on('uncaughtException', (error: Error) => {
    caught += 1;
    process.stdout.write(`caught ${error.message}; answered ${loop.stats().sent}\n`);
    if (caught === 1) {
      client.send('two', port, '127.0.0.1');
      return;
    }
    loop.close();
    client.close();
  });
}
client.send('one', port, '127.0.0.1');
