// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The exchange on gRPC: the proxy's end opens the stream and opens it again, the agent's end serves it. */

import type { ServerDuplexStream } from '@grpc/grpc-js';
import type { SyncMessage, SyncMessageInit } from '@tandem/proto/gen/messages';
import { SyncService } from '@tandem/proto/gen/services';
import type { Logger } from '@tandem/runtime/log';
import { PersistentStream } from '@tandem/runtime/persistent-stream';
import { StreamLink } from '@tandem/runtime/stream-link';
import type { Exchange } from './exchange.ts';

/** `path`: the agent's sync socket. */
export function createExchangeClient(
  exchange: Exchange,
  path: string,
  log: Logger,
): PersistentStream<SyncMessageInit, SyncMessage> {
  let open: StreamLink<SyncMessageInit> | null = null;
  return new PersistentStream({
    path,
    method: SyncService.exchange,
    log,
    handler: {
      onConnect: (link) => {
        open = link;
        link.onDrain = () => exchange.pump();
        exchange.open(link);
      },
      onMessage: (message, link) => exchange.receive(link, message),
      onDisconnect: () => {
        if (open !== null) exchange.closed(open);
        open = null;
      },
    },
  });
}

/** Handler of `Sync.Exchange`. */
export function exchangeHandler(
  exchange: Exchange,
): (call: ServerDuplexStream<SyncMessage, SyncMessageInit>) => void {
  return (call) => {
    const link = new StreamLink<SyncMessageInit>(call);
    link.onDrain = () => exchange.pump();
    const end = (): void => exchange.closed(link);
    call.on('data', (message: SyncMessage) => exchange.receive(link, message));
    call.on('error', end);
    call.on('close', end);
    call.on('end', () => {
      end();
      link.close();
    });
    exchange.open(link);
  };
}
