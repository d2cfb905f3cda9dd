// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The end of a stream that a test carries the messages of, one by one. */

import { SyncMessage, type SyncMessageInit } from '@tandem/proto/gen/messages';
import type { ExchangePort } from '../src/sync/exchange.ts';

export class QueuedPort implements ExchangePort {
  /** Encoded, oldest first. */
  readonly queue: Uint8Array[] = [];
  readonly isWritable = true;

  send(message: SyncMessageInit): boolean {
    this.queue.push(SyncMessage.encode(message));
    return true;
  }

  close(): void {
    this.queue.length = 0;
  }
}
