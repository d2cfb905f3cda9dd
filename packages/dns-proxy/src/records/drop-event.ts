// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** `struct td_event`: a packet that a BPF program dropped, or would have dropped in audit mode. */

import type { EndpointId, Ifindex } from '@tandem/core/ids';
import { tdCounterHelp, tdEvent } from '@tandem/datapath/abi.gen';

export const dropRecordBytes: number = tdEvent.size;

/** Names of td_counter in the order of their numbers: a drop's reason is one of them. */
export const kernelCounterNames: readonly string[] = Object.keys(tdCounterHelp);

export interface KernelDrop {
  readonly timeNs: number;
  readonly endpointId: EndpointId;
  readonly peerClass: number;
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  /** Empty: the same or unknown. */
  readonly originalDestination: Uint8Array;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly originalDestinationPort: number;
  readonly protocol: number;
  readonly direction: number;
  readonly verdict: number;
  readonly reason: number;
  readonly hook: number;
  readonly family: number;
  readonly ifindex: Ifindex;
  readonly ruleId: number;
}

/** Reads the record at `at`, which is whole. */
export function decodeDrop(bytes: Uint8Array, at: number): KernelDrop {
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, dropRecordBytes);
  const slice = (from: number): Uint8Array => bytes.slice(at + from, at + from + 16);
  const original = slice(tdEvent.original_destination);
  return {
    timeNs: Number(view.getBigUint64(tdEvent.time_ns, true)),
    endpointId: view.getUint32(tdEvent.endpoint_id, true),
    peerClass: view.getUint32(tdEvent.peer_class, true),
    source: slice(tdEvent.source),
    destination: slice(tdEvent.destination),
    originalDestination: original.some((octet) => octet !== 0) ? original : new Uint8Array(0),
    sourcePort: view.getUint16(tdEvent.source_port, true),
    destinationPort: view.getUint16(tdEvent.destination_port, true),
    originalDestinationPort: view.getUint16(tdEvent.original_destination_port, true),
    protocol: view.getUint8(tdEvent.protocol),
    direction: view.getUint8(tdEvent.direction),
    verdict: view.getUint8(tdEvent.verdict),
    reason: view.getUint8(tdEvent.reason),
    hook: view.getUint8(tdEvent.hook),
    family: view.getUint8(tdEvent.family),
    ifindex: view.getUint32(tdEvent.ifindex, true),
    ruleId: view.getUint32(tdEvent.rule_id, true),
  };
}

/** "drop_no_match". */
export function dropReasonName(reason: number): string {
  return kernelCounterNames[reason] ?? `reason_${reason}`;
}
