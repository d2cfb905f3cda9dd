// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A record of lost events among the events: a `td_event` without a packet, with the reason and the number `lost`. The reader
 * of the ring notices losses of the kernel, and sends the record to the other process like any drop event.
 */

import type { LostEventCode } from '@tandem/core/codes/events';
import { tdCounter, tdEvent } from '@tandem/datapath/abi.gen';
import { readU32 } from './dns-records.ts';
import { dropRecordBytes } from './drop-event.ts';

/** Events that the other process did not send; only in a process's own store. */
const reasonNotTold = 255;

/** Reasons that the kernel counts, and that the reader of the ring reports. */
export const kernelLossReasons = ['ring-full', 'rate-limit'] as const;
export type KernelLossReason = (typeof kernelLossReasons)[number];
export type LossReason = LostEventCode;

/** As `td_event.reason`. */
export const lossReasonNumbers: Readonly<Record<LossReason, number>> = {
  'ring-full': tdCounter.EVENTS_LOST,
  'rate-limit': tdCounter.EVENTS_LIMITED,
  'not-told': reasonNotTold,
};
const reasonNames = new Map<number, LossReason>(
  (Object.keys(lossReasonNumbers) as LossReason[]).map((name) => [lossReasonNumbers[name], name]),
);

export interface Loss {
  readonly timeNs: number;
  readonly reason: LossReason;
  readonly count: number;
}

export function encodeLoss(loss: Loss): Uint8Array {
  const bytes = new Uint8Array(dropRecordBytes);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(tdEvent.time_ns, BigInt(Math.floor(loss.timeNs)), true);
  view.setUint8(tdEvent.reason, lossReasonNumbers[loss.reason]);
  view.setUint32(tdEvent.lost, Math.min(loss.count, 0xffffffff), true);
  return bytes;
}

/** The reason in a `td_event` that reports a loss; null in one of a packet. */
export function lossReasonOf(bytes: Uint8Array, at: number): LossReason | null {
  return reasonNames.get(bytes[at + tdEvent.reason]!) ?? null;
}

/** Reads a record that has a `lossReasonOf`. */
export function decodeLoss(bytes: Uint8Array, at: number, reason: LossReason): Loss {
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, dropRecordBytes);
  return {
    timeNs: Number(view.getBigUint64(tdEvent.time_ns, true)),
    reason,
    count: view.getUint32(tdEvent.lost, true),
  };
}

/** `td_event.position`. */
export function positionOf(bytes: Uint8Array, at: number): number {
  const from = at + tdEvent.position;
  return readU32(bytes, from + 4) * 2 ** 32 + readU32(bytes, from);
}

/** `td_event.ring`. */
export function ringOf(bytes: Uint8Array, at: number): number {
  return readU32(bytes, at + tdEvent.ring);
}
