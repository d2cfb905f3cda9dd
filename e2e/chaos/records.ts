// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Outcome of each query, as the load generator writes it (`struct record` of load.h). */

import { readFileSync } from 'node:fs';

const recordBytes = 32;
const none = 0xffffffff;

export interface QueryRecord {
  /** CLOCK_MONOTONIC, milliseconds. */
  readonly sentMs: number;
  /** Index in the load's list of names. */
  readonly number: number;
  /** Null: no answer in time. */
  readonly latencyMs: number | null;
  readonly rcode: number;
  /** The first address of the answer. */
  readonly address: string | null;
  /** Outcome of the connection to it: not tried, failed or slower than its first SYN, or opened. */
  readonly connection: 'none' | 'failed' | 'opened';
}

export function readRecords(path: string): QueryRecord[] {
  return decodeRecords(readFileSync(path));
}

export function decodeRecords(bytes: Uint8Array): QueryRecord[] {
  if (bytes.length % recordBytes !== 0)
    throw new RangeError('the records end in the middle of one');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const records: QueryRecord[] = [];
  for (let at = 0; at < bytes.length; at += recordBytes) {
    const latencyUs = view.getUint32(at + 12, true);
    const connectUs = view.getUint32(at + 20, true);
    const retransmits = view.getUint8(at + 26);
    const isFailed = connectUs === none || retransmits > 0;
    records.push({
      sentMs: Number(view.getBigUint64(at, true)) / 1e6,
      number: view.getUint32(at + 8, true),
      latencyMs: latencyUs === none ? null : latencyUs / 1000,
      rcode: view.getUint8(at + 24),
      address:
        view.getUint32(at + 16, true) === 0 ? null : bytes.subarray(at + 16, at + 20).join('.'),
      connection: connectUs === 0 ? 'none' : isFailed ? 'failed' : 'opened',
    });
  }
  return records;
}
