// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Run in the node's namespace: a TCP listener at port P. It prints "asked" when a client has sent something. For each line on stdin
 * it writes to that connection as many octets as the line says and closes it. At the end of stdin it ends.
 *
 *   node closing-process.ts UNACKED_MS
 */

import { Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { releaseFd } from '../src/fd.ts';
import { createListener } from '../src/listener.ts';
import { acceptTcp } from '../src/tcp-accept.ts';
import { markMask, portP, redirectMark, socketMark } from './namespace-pair.ts';

const fd = createListener({
  family: 4,
  protocol: 'tcp',
  port: portP,
  mark: socketMark,
  markMask,
  redirectMark,
  unackedMs: Number(process.argv[2]),
});
let asked: Socket | undefined;
acceptTcp(fd, {
  onConnection: (accepted) => {
    const socket = new Socket({ fd: releaseFd(accepted.fd), readable: true, writable: true });
    socket.on('error', () => undefined);
    socket.once('data', () => {
      asked = socket;
      console.log('asked');
    });
  },
  onError: (errno) => {
    throw new Error(`accept: ${errno}`);
  },
});
console.log('ready');
for await (const line of createInterface(process.stdin)) {
  asked?.write(new Uint8Array(Number(line)));
  // The kernel has taken what it takes by then.
  await sleep(200);
  asked?.destroy();
  console.log('closed');
}
process.exit(0);
