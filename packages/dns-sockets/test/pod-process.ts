// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Run in the pod's namespace: asks one address by one transport and prints the answer as JSON:
 * `{from, answer}`, or `{error}` after the time given in ms.
 *
 *   node pod-process.ts udp|tcp ADDRESS PORT TIMEOUT_MS
 */

import { createSocket } from 'node:dgram';
import { connect } from 'node:net';

const [protocol, address, port, timeoutMs] = process.argv.slice(2) as [
  string,
  string,
  string,
  string,
];

function finish(result: object): void {
  process.stdout.write(JSON.stringify(result), () => process.exit(0));
}

setTimeout(() => finish({ error: 'timeout' }), Number(timeoutMs));
if (protocol === 'udp') {
  const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4');
  socket.on('message', (message, info) => {
    finish({ from: info.address, port: info.port, answer: JSON.parse(String(message)) });
  });
  socket.on('error', (error) => finish({ error: error.message }));
  socket.send('question', Number(port), address);
} else {
  const socket = connect(Number(port), address, () => socket.write('question'));
  socket.on('data', (data) => finish({ from: address, answer: JSON.parse(String(data)) }));
  socket.on('error', (error) => finish({ error: error.message }));
}
