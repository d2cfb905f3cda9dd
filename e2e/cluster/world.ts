// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The world beyond the cluster, as a process in the control plane's network namespace: a DNS server for example.com and web
 * servers at the addresses that it gives. `www` and `new-*` have other addresses than `api`.
 */

import { createSocket } from 'node:dgram';
import { createServer } from 'node:http';
import { decode, encode, type Packet } from 'dns-packet';
import { worldAddresses, worldDns } from './layout.ts';

const [apiAddress, wwwAddress] = worldAddresses;
const ttl = 30;

/** Null: there is no such name. */
function addressOf(name: string): string | null {
  const text = name.toLowerCase();
  if (text === 'api.example.com' || /^new-[a-z0-9-]+\.example\.com$/.test(text)) return apiAddress;
  return text === 'www.example.com' ? wwwAddress : null;
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
for (const address of [apiAddress, wwwAddress]) {
  createServer((_, response) => response.end(`hello from ${address}\n`)).listen(80, address);
}
