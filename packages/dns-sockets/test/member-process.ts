// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Run in the node's namespace: all four listeners of one member. Each datagram and each line of a
 * connection is answered with what the member saw, as JSON. "ready" on stdout; ends with stdin.
 */

import { createServer } from 'node:net';
import { releaseFd } from '../src/fd.ts';
import * as layout from '../src/layout.ts';
import { createListener } from '../src/listener.ts';
import type { UdpLoop } from '../src/udp-loop.ts';
import { appendEcho, echoLoop } from './echo.ts';
import { markMask, portP, redirectMark, socketMark } from './namespace-pair.ts';

const options = { port: portP, mark: socketMark, markMask, redirectMark } as const;
const buffer = Buffer.alloc(64 * 512);

function addressText(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

const loop: UdpLoop = echoLoop({
  buffer,
  onBatch(handle, count) {
    for (let slot = 0; slot < count; slot++) {
      const word = slot * layout.RECORD_WORDS;
      const bytes = loop.rxBytes.subarray(word * 4, word * 4 + layout.RECORD_BYTES);
      const answer = JSON.stringify({
        peer: addressText(bytes.subarray(layout.RX_PEER * 4, layout.RX_PEER * 4 + 16)),
        destination: addressText(bytes.subarray(layout.RX_DESTINATION * 4)),
        destinationPort: loop.rx[word + layout.RX_DESTINATION_PORT],
        flags: loop.rx[word + layout.RX_FLAGS],
        ifindex: loop.rx[word + layout.RX_IFINDEX],
      });
      const offset = loop.rx[word + layout.RX_OFFSET]!;
      loop.rx[word + layout.RX_LENGTH] = buffer.write(answer, offset);
      appendEcho(loop, handle, slot);
    }
  },
});

let listening = 0;
for (const family of [4, 6] as const) {
  loop.add(createListener({ ...options, family, protocol: 'udp' }), 'listener');
  const server = createServer((connection) => {
    const { localAddress, localPort, remoteAddress } = connection;
    connection.on('data', () => {
      connection.write(JSON.stringify({ localAddress, localPort, remoteAddress }));
    });
    connection.on('error', () => connection.destroy());
  });
  server.listen({ fd: releaseFd(createListener({ ...options, family, protocol: 'tcp' })) }, () => {
    listening += 1;
    if (listening === 2) process.stdout.write('ready\n');
  });
}
process.stdin.resume().on('end', () => process.exit(0));
