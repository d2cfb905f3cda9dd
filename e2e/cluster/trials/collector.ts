// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A process in the control plane's namespace, to which talkers send what policy allows. Writes a line when a talker is heard
 * for the first time, and one for each packet that a talker should not have received. Lines that it reads: "forget" makes
 * every talker new, "peers ADDRESS..." tells the talkers at these addresses to send to each other.
 */

import { createSocket } from 'node:dgram';
import { createInterface } from 'node:readline';
import { worldApiAddress } from '../layout.ts';
import { collectorPort, talkerPort } from './talkers.ts';

const heard = new Set<string>();
const server = createSocket('udp4');
const receiveBytes = 4 << 20;

server.on('message', (bytes) => {
  const [mark = '', name = '', ...rest] = bytes.toString('latin1').split(' ');
  if (mark === 'TANDEM-') console.log(`complaint ${name} ${Date.now()} ${rest.join(' ')}`);
  if (mark !== 'TANDEM+' || heard.has(name)) return;
  heard.add(name);
  console.log(`heard ${name} ${Date.now()}`);
});
server.bind(collectorPort, worldApiAddress, () => {
  server.setRecvBufferSize(receiveBytes);
  console.log('ready');
});
createInterface(process.stdin).on('line', (line) => {
  const [command, ...addresses] = line.split(' ');
  if (command === 'peers') {
    const message = `PEERS ${addresses.join(' ')}`;
    for (const address of addresses) server.send(message, talkerPort, address);
  } else {
    heard.clear();
    console.log('forgotten');
  }
});
