// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Closes a connection whose client reads nothing, and prints "closed". Another process has set SO_LINGER of the listener, so that
 * close(2) could wait for the client for a minute.
 */

import { spawnSync } from 'node:child_process';
import { connect, Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { localPort, releaseFd } from '../src/fd.ts';
import { createListener } from '../src/listener.ts';
import { acceptTcp } from '../src/tcp-accept.ts';

const linger = `
import socket, struct
socket.socket(fileno=0).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 60))`;

const guard = { mark: 0, markMask: 0, redirectMark: 0 };
const fd = createListener({ family: 4, protocol: 'tcp', port: 0, unackedMs: 60_000, ...guard });
const { promise: accepted, resolve } = Promise.withResolvers<Socket>();
acceptTcp(fd, {
  onConnection: (connection) => resolve(new Socket({ fd: releaseFd(connection.fd) })),
  onError: (errno) => {
    throw new Error(`accept: ${errno}`);
  },
});
spawnSync('python3', ['-c', linger], { stdio: [fd, 'inherit', 'inherit'] });
const client = connect(localPort(fd), '127.0.0.1');
client.pause();
const socket = await accepted;
// The kernel takes a part.
socket.write(new Uint8Array(16 << 20));
await sleep(100);
socket.destroy();
await sleep(1);
console.log('closed');
process.exit(0);
