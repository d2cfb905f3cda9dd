// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Reads the kernel's drop events while this process holds the lease, into its store, and sends them to the other
 * process. An event stays in the ring until the other process has it too, within a bound. So the next reader
 * after a kill reads it again, and knows by its position whether it already has it. Events that the kernel could not put
 * into the ring are reported by an event of their own.
 */

import { HeldRing, type OnHeldRecords } from '@tandem/bpf-loader-node/held-ring';
import type { GroupIndex } from '@tandem/core/ids';
import { tdEvent } from '@tandem/datapath/abi.gen';
import { readCounter } from '@tandem/datapath/counters';
import type { Datapath } from '@tandem/datapath/datapath';
import { NodeGroup } from '@tandem/datapath/group';
import type { Clock } from '@tandem/runtime/system-clock';
import { dropRecordBytes } from '../records/drop-event.ts';
import {
  encodeLoss,
  type KernelLossReason,
  kernelLossReasons,
  lossReasonNumbers,
} from '../records/loss-record.ts';
import { DropLease, type LeaseHolder, readHolder } from './lease.ts';
import { ringRecordBytes } from './ledger.ts';
import { dropReadBatchesMax, heldDropsMax, kernelLossMs } from './limits.ts';

export interface DropReaderOptions {
  readonly datapath: Datapath;
  /** Our index in the group. */
  readonly member: GroupIndex;
  readonly clock: Clock;
  /**
   * A `td_event` with its position, or one that reports a loss. Valid during the call. `isCatchUp`: it
   * was in the ring when we became the reader, one of a bounded number.
   */
  readonly onRecord: (bytes: Uint8Array, at: number, length: number, isCatchUp: boolean) => void;
  /** The position in this ring up to which the other process has acknowledged drop events. */
  readonly acknowledgedPosition: (ring: number) => number;
}

export class DropReaderCounters {
  /** Times that this process became the reader, and that another took over from it unasked. */
  leasesTaken = 0;
  leasesLost = 0;
  /** Events that this process read from the ring, those that it had already included. */
  eventsRead = 0;
  /** Records of another size: of programs of another version. */
  recordsSkipped = 0;
  /** Batches dropped because another process had read them. */
  batchesFenced = 0;
  /** Times that the ring's position was nonsense, and its records were given up. */
  ringsRepaired = 0;
}

const alignBytes = 8;

export class DropReader implements Disposable {
  /** Id of the ring's map. */
  readonly ringId: number;
  readonly #o: DropReaderOptions;
  readonly #lease: DropLease;
  readonly #ring: HeldRing;
  readonly #group: NodeGroup;
  readonly #counters = new DropReaderCounters();
  #nextLossMs = 0;
  #isCatchUp = false;

  constructor(options: DropReaderOptions) {
    this.#o = options;
    const { datapath, member } = options;
    this.#group = new NodeGroup(datapath.map('group').mmap());
    this.#lease = new DropLease(this.#group, member);
    this.ringId = datapath.map('events').info().id;
    this.#ring = new HeldRing(datapath.map('events'), this.#onRecords);
  }

  get counters(): DropReaderCounters {
    const { fenced, repaired } = this.#ring.stats();
    const counters = this.#counters;
    counters.leasesTaken = this.#lease.taken;
    counters.leasesLost = this.#lease.lost;
    counters.batchesFenced = fenced;
    counters.ringsRepaired = repaired;
    return counters;
  }

  get isReading(): boolean {
    return this.#lease.isOurs;
  }

  /** Where the last event that the kernel put into the ring ended. */
  get lastPosition(): number {
    return this.#ring.stats().end;
  }

  /** Null: no process reads. */
  holder(): LeaseHolder | null {
    return readHolder(this.#group, this.#o.clock.monotonicMs());
  }

  /** Events that the kernel did not write into the ring since the ring was made. */
  kernelLost(reason: KernelLossReason): number {
    return readCounter(this.#o.datapath, lossReasonNumbers[reason]);
  }

  /** Reads what there is, if it is for us to read. */
  step(): void {
    const nowMs = this.#o.clock.monotonicMs();
    const lease = this.#lease.renew(nowMs);
    if (lease === 'other') return;
    // What the last reader did not commit may never have reached us.
    if (lease === 'taken') this.#ring.rewind();
    this.#isCatchUp = lease === 'taken';
    for (let i = 0; i < dropReadBatchesMax && this.#lease.isOurs; i++) {
      if (this.#ring.read() === 0) break;
    }
    this.#commit();
    if (nowMs < this.#nextLossMs) return;
    this.#nextLossMs = nowMs + kernelLossMs;
    for (const reason of kernelLossReasons) this.#reportKernelLoss(reason);
  }

  /** Leaves the ring to the other process. */
  [Symbol.dispose](): void {
    if (this.#lease.isOurs) this.step();
    this.#lease.release();
    this.#ring.close();
  }

  readonly #onRecords: OnHeldRecords = (bytes, lengths, positions, count) => {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    let at = 0;
    for (let i = 0; i < count; i++) {
      const length = lengths[i]!;
      if (length === dropRecordBytes) {
        const end = positions[i]! + ringRecordBytes;
        view.setUint32(at + tdEvent.lost, 0, true);
        view.setBigUint64(at + tdEvent.position, BigInt(end), true);
        view.setUint32(at + tdEvent.ring, this.ringId, true);
        this.#counters.eventsRead += 1;
        this.#o.onRecord(bytes, at, length, this.#isCatchUp);
      } else this.#counters.recordsSkipped += 1;
      at += (length + alignBytes - 1) & -alignBytes;
    }
  };

  #commit(): void {
    const { position } = this.#ring.stats();
    const acknowledged = this.#o.acknowledgedPosition(this.ringId);
    const until = Math.min(
      position,
      Math.max(acknowledged, position - heldDropsMax * ringRecordBytes),
    );
    // Fenced, the next reading begins where the other one is.
    if (until > 0) this.#ring.commit(until);
  }

  /** Each loss is reported by one process, the next reader: `group` has the count reported so far. */
  #reportKernelLoss(reason: KernelLossReason): void {
    const total = this.kernelLost(reason) >>> 0;
    const reported = this.#group.reportedLoss(reason);
    if (total === reported) return;
    if (!this.#group.swapReportedLoss(reason, reported, total)) return;
    const count = (total - reported) | 0;
    // Less than was reported: the counters are new.
    if (count <= 0) return;
    const record = encodeLoss({
      timeNs: this.#o.clock.boottimeSeconds() * 1e9,
      reason,
      count,
    });
    this.#o.onRecord(record, 0, record.length, false);
  }
}
