// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Appends datagrams to the batch that a loop sends when its callback returns or on `flush`. */

import {
  HEADER_TX_COUNT,
  RECORD_WORDS,
  TX_DESTINATION,
  TX_HANDLE,
  TX_IFINDEX,
  TX_LENGTH,
  TX_OFFSET,
  TX_PORT,
  TX_SOURCE,
} from '@tandem/dns-sockets/layout';
import type { UdpLoop } from '@tandem/dns-sockets/udp-loop';

/** A datagram on a connected socket: a query to its server. Returns the index of the tx record. */
export function appendForward<Handle extends number>(
  loop: UdpLoop<Handle>,
  handle: NoInfer<Handle>,
  offset: number,
  length: number,
): number {
  const { header, tx } = loop;
  const index = header[HEADER_TX_COUNT]!;
  const record = index * RECORD_WORDS;
  tx[record + TX_HANDLE] = handle;
  tx[record + TX_OFFSET] = offset;
  tx[record + TX_LENGTH] = length;
  header[HEADER_TX_COUNT] = index + 1;
  return index;
}

/**
 * A reply to a pod, on a listener, from the address that the pod asked. `words` holds the client's
 * address at `client` and the server's at `server`, 4 words each.
 */
export function appendReply<Handle extends number>(
  loop: UdpLoop<Handle>,
  handle: NoInfer<Handle>,
  offset: number,
  length: number,
  words: Uint32Array,
  client: number,
  port: number,
  server: number,
): void {
  const { tx } = loop;
  const record = appendForward(loop, handle, offset, length) * RECORD_WORDS;
  tx[record + TX_PORT] = port;
  tx[record + TX_IFINDEX] = 0;
  for (let w = 0; w < 4; w++) {
    tx[record + TX_DESTINATION + w] = words[client + w]!;
    tx[record + TX_SOURCE + w] = words[server + w]!;
  }
}
