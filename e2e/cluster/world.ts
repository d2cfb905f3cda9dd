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
  ipv6,
  worldApiAddress,
  worldDns,
  worldNewAddress,
  worldNewNumberMax,
  worldWwwAddress,
} from './layout.ts';

const ttl = 30;

const isDualStack = process.argv.includes('--dual-stack');

interface Addresses {
  readonly A: string;
  readonly AAAA: string;
}

/** Null: there is no such name. */
function addressesOf(name: string): Addresses | null {
  const text = name.toLowerCase();
  if (text === 'api.example.com') return { A: worldApiAddress, AAAA: ipv6.worldApiAddress };
  if (text === 'www.example.com') return { A: worldWwwAddress, AAAA: ipv6.worldWwwAddress };
  const number = Number(/^new-([0-9]+)\.example\.com$/.exec(text)?.[1] ?? 0);
  return number >= 1 && number <= worldNewNumberMax
    ? { A: worldNewAddress(number), AAAA: ipv6.worldNewAddress(number) }
    : null;
}

function answer(query: Packet): Packet {
  const [question] = query.questions ?? [];
  const name = question?.name ?? '';
  const addresses = addressesOf(name);
  const type = question?.type;
  const isAsked = type === 'A' || (type === 'AAAA' && isDualStack);
  return {
    type: 'response',
    id: query.id ?? 0,
    flags: 0x0400 | (addresses === null ? 3 : 0),
    questions: query.questions ?? [],
    answers: addresses !== null && isAsked ? [{ type, name, ttl, data: addresses[type] }] : [],
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
const serve = (address: string): unknown =>
  createServer(({ socket }, response) =>
    response.end(`hello from ${socket.localAddress}\n`),
  ).listen({
    port: 80,
    host: address,
    ipv6Only: true,
  });
serve('0.0.0.0');
if (isDualStack) serve('::');
