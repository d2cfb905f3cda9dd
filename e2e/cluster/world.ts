// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The world beyond the cluster, as a process in the control plane's network namespace: a DNS server for example.com, and a web
 * server at every address that it gives. `new-1` to `new-150` have an address each.
 */

import { createSocket } from 'node:dgram';
import { createServer } from 'node:http';
import { decode, encode, type Packet } from 'dns-packet';
import {
  worldApiAddress,
  worldDns,
  worldNewAddress,
  worldNewNumberMax,
  worldWwwAddress,
} from './layout.ts';

const ttl = 30;

/** Null: there is no such name. */
function addressOf(name: string): string | null {
  const text = name.toLowerCase();
  if (text === 'api.example.com') return worldApiAddress;
  if (text === 'www.example.com') return worldWwwAddress;
  const number = Number(/^new-([0-9]+)\.example\.com$/.exec(text)?.[1] ?? 0);
  return number >= 1 && number <= worldNewNumberMax ? worldNewAddress(number) : null;
}

function answer(query: Packet): Packet {
  const [question] = query.questions ?? [];
  const name = question?.name ?? '';
  const address = addressOf(name);
  const isA = question?.type === 'A';
  return {
    type: 'response',
    id: query.id ?? 0,
    flags: 0x0400 | (address === null ? 3 : 0),
    questions: query.questions ?? [],
    answers: address !== null && isA ? [{ type: 'A', name, ttl, data: address }] : [],
  };
}

const dns = createSocket('udp4');
dns.on('message', (bytes, { address, port }) => {
  try {
    dns.send(encode(answer(decode(bytes))), port, address);
  } catch {
    // No query.
  }
});
dns.bind(53, worldDns);
createServer(({ socket }, response) => response.end(`hello from ${socket.localAddress}\n`)).listen(
  80,
  '0.0.0.0',
);
