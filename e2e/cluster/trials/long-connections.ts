// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A process in the network namespace of a pod: connections to a web server that stay open, with a request on each every
 * `intervalMs`. Arguments: address, count, interval. Writes a line when all are open, and at the end of standard input what
 * became of them.
 */

import net from 'node:net';

const [address = '', count = '20', interval = '100'] = process.argv.slice(2);
const intervalMs = Number(interval);
const port = 80;

export interface LongConnections {
  readonly opened: number;
  readonly exchanges: number;
  /** How connections ended that were not to. */
  readonly broken: readonly string[];
  /** Longest time of an exchange. */
  readonly slowestMs: number;
}

const broken: string[] = [];
let opened = 0;
let exchanges = 0;
let slowestMs = 0;
let isEnding = false;

function open(): void {
  const socket = net.connect({ host: address, port });
  let askedMs = 0;
  const ask = (): void => {
    askedMs = performance.now();
    socket.write(`GET / HTTP/1.1\r\nHost: ${address}\r\n\r\n`);
  };
  socket.on('connect', () => {
    opened++;
    if (opened === Number(count)) process.stdout.write('open\n');
    ask();
  });
  // The server's answer is short: it comes in one piece.
  socket.on('data', () => {
    slowestMs = Math.max(slowestMs, performance.now() - askedMs);
    exchanges++;
    setTimeout(ask, intervalMs);
  });
  socket.on('error', (error: NodeJS.ErrnoException) => broken.push(error.code ?? error.message));
  socket.on('end', () => {
    if (!isEnding) broken.push('ended by the server');
  });
}

for (let index = 0; index < Number(count); index++) open();
process.stdin.resume();
process.stdin.on('end', () => {
  isEnding = true;
  const result: LongConnections = { opened, exchanges, broken, slowestMs };
  process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit());
});
