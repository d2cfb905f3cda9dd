// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The kernel's drop events: from its ring buffer to the event store, what came while we were away first. */

import { type OnRecords, RingBuffer } from '@tandem/bpf-loader-node/ringbuf';
import type { Datapath } from '@tandem/datapath/datapath';
import { dropRecordBytes } from '@tandem/dns-proxy/store/drop-event';

const alignBytes = 8;

/** Calls `onDrop` with each `td_event` until it is closed. */
export function readDropEvents(
  datapath: Datapath,
  onDrop: (bytes: Uint8Array, at: number, length: number) => void,
): RingBuffer {
  const onRecords: OnRecords = (bytes, lengths, count) => {
    let at = 0;
    for (let i = 0; i < count; i++) {
      const length = lengths[i] as number;
      // Of another version's programs, that are being replaced.
      if (length === dropRecordBytes) onDrop(bytes, at, length);
      at += (length + alignBytes - 1) & -alignBytes;
    }
  };
  return new RingBuffer(datapath.map('events'), onRecords);
}
