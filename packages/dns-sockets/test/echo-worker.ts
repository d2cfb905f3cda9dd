// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Run as a worker by worker.test.ts: an echo server (UDP, IPv4), its descriptors of every kind, a
 * unix link, and then the end that `workerData.end` names.
 */

import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parentPort, workerData } from 'node:worker_threads';
import { duplicateFd, localPort } from '../src/fd.ts';
import { createListener } from '../src/listener.ts';
import type { UdpLoop } from '../src/udp-loop.ts';
import { UnixSeqpacket } from '../src/unix-seqpacket.ts';
import { createUpstreamUdp } from '../src/upstream.ts';
import { appendEcho, echoLoop } from './echo.ts';

const { end, directory } = workerData as {
  end: string;
  directory: string;
};
const loopback = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 127, 0, 0, 1);
let isEnding = false;

function endInBatch(): void {
  if (end === 'exit in a batch') process.exit(0);
  if (end === 'throw in a batch') throw new Error('worker threw');
  parentPort?.postMessage('busy');
  // Terminated from outside while the batch's callback is on the stack.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
}

const loop: UdpLoop = echoLoop({
  onBatch(handle, count) {
    if (isEnding) endInBatch();
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
loop.add(fd, 'listener');
loop.add(createUpstreamUdp({ address: loopback, port: 9 }), 'connected');
duplicateFd(fd);
const path = join(mkdtempSync(join(directory || tmpdir(), 'w')), 'link');
const server = UnixSeqpacket.listen(path, {
  mode: 0o600,
  onConnection: () => ({ onMessage: () => {}, onEnd: () => {} }),
});
const link = UnixSeqpacket.connect(path, { onMessage: () => {}, onEnd: () => {} });
link.send(Uint8Array.of(1), [fd]);

parentPort?.once('message', () => {
  isEnding = end.endsWith('in a batch');
  if (end === 'exit') process.exit(0);
  if (end === 'throw') throw new Error('worker threw');
  if (end === 'return') {
    loop.close();
    link.close();
    server.close();
  }
});
parentPort?.postMessage(localPort(fd));
