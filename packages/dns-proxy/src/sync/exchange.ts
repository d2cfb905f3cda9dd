// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The exchange of names and events between the two processes of a node. It is symmetrical: it does not matter which side
 * is the gRPC client. Streams may end and processes restart at any time; nothing is
 * applied twice, and both name caches become equal. Pure: streams and time are parameters.
 *
 *     a stream opens --hello both ways--> batches and acknowledgements --it ends--> the next stream
 *
 * The hello names the last batch of the receiver that its sender has applied. The receiver sends later batches
 * again, and its whole cache too if either process run is new. Batches of a run are numbered without gaps, and
 * only the next number is applied.
 */

import { nameLengthAt } from '@tandem/core/dns/name';
import type { FqdnMapping as NameMapping } from '@tandem/core/fqdn/merge';
import type { GroupIndex } from '@tandem/core/ids';
import { nameBytesMax } from '@tandem/core/limits';
import type {
  FqdnMapping,
  SyncBatch,
  SyncHello,
  SyncMessage,
  SyncMessageInit,
} from '@tandem/proto/gen/messages';
import { dnsRecordLength } from '../records/dns-records.ts';
import { dropRecordBytes } from '../records/drop-event.ts';
import { lossReasonOf } from '../records/loss-record.ts';
import {
  batchesInFlightMax,
  epochAheadSecondsMax,
  forwardedDnsBurst,
  forwardedDnsPerSecond,
  forwardedDropsBurst,
  forwardedDropsPerSecond,
  transferIntervalMs,
} from './limits.ts';
import { Outbox, type OutboxOptions, type RecordKind } from './outbox.ts';

/** The sending end of a stream (`StreamLink`). */
export interface ExchangePort {
  readonly isWritable: boolean;
  send(message: SyncMessageInit): boolean;
  close(): void;
}

/** Receiver of the other process's records, which are whole, and valid during the call only. */
export interface ExchangeSink {
  dnsRecord(bytes: Uint8Array, at: number, length: number): void;
  dropRecord(bytes: Uint8Array, at: number, length: number): void;
  mapping(mapping: NameMapping): void;
  /** All of the other's cache has come. */
  cacheReceived(): void;
  /** Number of DNS events that the other process could not send. */
  dnsEventsLost?(count: number): void;
  /** The other process could not send the drop event of this position, nor perhaps some after it. */
  dropsSince?(position: number, ring: number): void;
}

export interface ExchangeOptions extends OutboxOptions {
  /** Our index in the group. */
  readonly member: GroupIndex;
  /** Start of this run, boottime ns: distinguishes two runs, and orders them. */
  readonly epoch: number;
  readonly version: string;
  readonly sink: ExchangeSink;
}

export class ExchangeCounters {
  batchesSent = 0;
  batchesReceived = 0;
  /** Batches that had been applied before. */
  batchesRepeated = 0;
  /** Records and mappings of the other process that are not well-formed. */
  recordsRefused = 0;
  /** Streams given up because the other side did not keep to the protocol. */
  protocolErrors = 0;
  /** DNS and drop events over the rate that is sent. */
  eventsLimited = 0;
  /** Events that the other process reports as not sent to this one. */
  peerEventsLost = 0;
  peerMappingsLost = 0;
  /** Drop events among them. */
  peerDropsLost = 0;
  cachesReceived = 0;
}

/** Tokens for events that may be sent; refilled by `Exchange.tick`. */
class RateLimit {
  readonly #perMs: number;
  readonly #burst: number;
  #tokens: number;

  constructor(perSecond: number, burst: number) {
    this.#perMs = perSecond / 1000;
    this.#burst = burst;
    this.#tokens = burst;
  }

  refill(ms: number): void {
    this.#tokens = Math.min(this.#burst, this.#tokens + ms * this.#perMs);
  }

  take(): boolean {
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }
}

export class Exchange {
  readonly counters: ExchangeCounters = new ExchangeCounters();
  readonly outbox: Outbox;
  readonly #options: ExchangeOptions;
  readonly #dnsLimit = new RateLimit(forwardedDnsPerSecond, forwardedDnsBurst);
  readonly #dropLimit = new RateLimit(forwardedDropsPerSecond, forwardedDropsBurst);
  /** The stream in use: the last one whose hello came. */
  #port: ExchangePort | null = null;
  /** The run of the other process that said hello last, and its version. */
  #peerEpoch = 0;
  #peerVersion = '';
  /** The run whose batches were applied, up to `#appliedSequence`. */
  #appliedEpoch = 0;
  #appliedSequence = 0;
  /** Batches that came since the last acknowledgement. */
  #unacknowledged = 0;
  /** Number of unacknowledged batches at which an acknowledgement is sent at once: half of the peer's window. */
  readonly #acknowledgedTogether: number;
  #mappingsLostSeen = 0;
  #lastTransferMs = -Infinity;
  #nowMs = 0;
  #nowSeconds = 0;

  constructor(options: ExchangeOptions) {
    this.#options = options;
    this.outbox = new Outbox(options);
    this.#acknowledgedTogether = (options.batchesInFlightMax ?? batchesInFlightMax) >> 1;
  }

  /** Both sides have said hello and the stream has not ended. */
  get isConnected(): boolean {
    return this.#port !== null;
  }

  get peerVersion(): string {
    return this.#peerVersion;
  }

  /** A new stream: says hello. It replaces the one in use when its hello comes. */
  open(port: ExchangePort): void {
    const { member, epoch, version } = this.#options;
    port.send({
      hello: {
        member,
        epoch,
        peerEpoch: this.#appliedEpoch,
        peerSequence: this.#appliedSequence,
        version,
      },
    });
  }

  /** The stream ended, or is given up. */
  closed(port: ExchangePort): void {
    if (this.#port === port) this.#port = null;
  }

  /** Ends the stream, after what waits, of which the other side gets a window of batches at most. */
  end(): void {
    // `flush` leaves the pile while pieces wait before it.
    let sent = -1;
    while (sent < this.outbox.lastSequence) {
      sent = this.outbox.lastSequence;
      this.outbox.flush();
      this.pump();
    }
    this.#port?.close();
    this.#port = null;
  }

  receive(port: ExchangePort, message: SyncMessage): void {
    if (message.hello !== null) {
      this.#onHello(port, message.hello);
      return;
    }
    // A stream that has been replaced, or one that begins without a hello.
    if (this.#port !== port) {
      port.close();
      return;
    }
    if (message.batch !== null) this.#onBatch(port, message.batch);
    else if (message.ack !== null && message.ack.epoch === this.#options.epoch) {
      if (this.outbox.acknowledge(message.ack.sequence)) this.pump();
      else this.#giveUp(port);
    }
  }

  /** A record of our own worker; `isMapping`: it taught our cache something. */
  offerDns(bytes: Uint8Array, at: number, length: number, isMapping: boolean): void {
    if (isMapping || this.#dnsLimit.take()) this.outbox.add('dns', bytes, at, length, isMapping);
    else this.#limit('dns', bytes, at);
  }

  /**
   * A drop event that we read from the kernel's ring. `isCatchUp`: one of those that lay in it when we began;
   * they are a ring full at most, the other process may have them, and they must not cost it new ones.
   */
  offerDrop(bytes: Uint8Array, at: number, length: number, isCatchUp = false): void {
    // Losses are few, and must not be lost themselves.
    const isFree = isCatchUp || lossReasonOf(bytes, at) !== null;
    const mayPass = isFree || this.#dropLimit.take();
    if (mayPass) this.outbox.add('drop', bytes, at, length, false);
    else this.#limit('drop', bytes, at);
  }

  /** Sends what may be sent. Also to be called when the stream takes messages again. */
  pump(): void {
    const port = this.#port;
    if (port === null) return;
    if (this.#unacknowledged > 0 && port.isWritable) {
      this.#unacknowledged = 0;
      port.send({ ack: { epoch: this.#appliedEpoch, sequence: this.#appliedSequence } });
    }
    while (port.isWritable) {
      const batch = this.outbox.next(this.#nowSeconds);
      if (batch === null) return;
      this.counters.batchesSent += 1;
      port.send({ batch });
    }
  }

  /** Time passes: monotonic ms, boottime seconds. */
  tick(nowMs: number, nowSeconds: number): void {
    const elapsed = nowMs - this.#nowMs;
    this.#nowMs = nowMs;
    this.#nowSeconds = nowSeconds;
    this.#dnsLimit.refill(elapsed);
    this.#dropLimit.refill(elapsed);
    this.#transferIfLost();
    if (this.#port === null) return;
    this.outbox.flush();
    this.pump();
  }

  /** Mappings that were lost are in the cache: the whole of it follows, not too often. */
  #transferIfLost(): void {
    if (this.outbox.mappingsLost === this.#mappingsLostSeen) return;
    if (this.#nowMs - this.#lastTransferMs < transferIntervalMs) return;
    // While the other is away more may be lost: the transfer begins when it is back.
    if (this.#port === null || this.outbox.isTransferring) return;
    this.#transfer();
  }

  #transfer(): void {
    this.#mappingsLostSeen = this.outbox.mappingsLost;
    this.#lastTransferMs = this.#nowMs;
    this.outbox.transferCache();
  }

  #onHello(port: ExchangePort, hello: SyncHello): void {
    const { member, epoch } = this.#options;
    // An earlier run that has not noticed its end yet must not displace its successor; one of the future would refuse every successor.
    const isOrdered = hello.epoch >= this.#peerEpoch && !this.#isOfFuture(hello.epoch);
    if (hello.member === member || !isOrdered) {
      this.#giveUp(port);
      return;
    }
    const isNewRun = hello.epoch !== this.#peerEpoch;
    const knowsUs = hello.peerEpoch === epoch;
    if (knowsUs && !this.outbox.acknowledge(hello.peerSequence)) {
      this.#giveUp(port);
      return;
    }
    if (this.#port !== null && this.#port !== port) this.#port.close();
    this.#port = port;
    this.#peerEpoch = hello.epoch;
    this.#peerVersion = hello.version;
    if (isNewRun || !knowsUs) this.#transfer();
    this.outbox.rewind();
    this.pump();
  }

  /** The clock is that of the last tick: 0 before the first, and behind after the machine slept. */
  #isOfFuture(epoch: number): boolean {
    return this.#nowSeconds > 0 && epoch / 1e9 > this.#nowSeconds + epochAheadSecondsMax;
  }

  #onBatch(port: ExchangePort, batch: SyncBatch): void {
    const { counters } = this;
    const isFirst = this.#appliedEpoch !== this.#peerEpoch;
    if (!isFirst && batch.sequence > this.#appliedSequence + 1) {
      this.#giveUp(port);
      return;
    }
    this.#unacknowledged += 1;
    if (!isFirst && batch.sequence <= this.#appliedSequence) {
      counters.batchesRepeated += 1;
    } else {
      this.#appliedEpoch = this.#peerEpoch;
      this.#appliedSequence = batch.sequence;
      counters.batchesReceived += 1;
      this.#apply(batch);
    }
    // Each message costs a turn of both processes. So the acknowledgement waits for our next batch, unless it keeps the
    // other side from sending.
    if (this.#unacknowledged >= this.#acknowledgedTogether) this.pump();
  }

  #apply(batch: SyncBatch): void {
    const { sink } = this.#options;
    const { counters } = this;
    for (const message of batch.mappings) {
      const mapping = mappingOf(message);
      if (mapping === null) counters.recordsRefused += 1;
      else sink.mapping(mapping);
    }
    const { dnsRecords, dropRecords, dropsSince, dropsRing } = batch;
    if (dropsSince > 0) sink.dropsSince?.(dropsSince, dropsRing);
    for (let at = 0; at < dnsRecords.length; ) {
      const length = dnsRecordLength(dnsRecords, at);
      if (length === 0) {
        // Where the next one would begin is unknown.
        counters.recordsRefused += 1;
        break;
      }
      sink.dnsRecord(dnsRecords, at, length);
      at += length;
    }
    if (dropRecords.length % dropRecordBytes !== 0) counters.recordsRefused += 1;
    for (let at = 0; at + dropRecordBytes <= dropRecords.length; at += dropRecordBytes) {
      sink.dropRecord(dropRecords, at, dropRecordBytes);
    }
    counters.peerEventsLost += batch.eventsLost;
    counters.peerDropsLost += batch.dropsLost;
    const dnsLost = batch.eventsLost - batch.dropsLost;
    if (dnsLost > 0) sink.dnsEventsLost?.(dnsLost);
    counters.peerMappingsLost += batch.mappingsLost;
    if (!batch.cacheEnd) return;
    counters.cachesReceived += 1;
    sink.cacheReceived();
  }

  #limit(kind: RecordKind, bytes: Uint8Array, at: number): void {
    this.counters.eventsLimited += 1;
    this.outbox.limit(kind, bytes, at);
  }

  #giveUp(port: ExchangePort): void {
    this.counters.protocolErrors += 1;
    this.closed(port);
    port.close();
  }
}

/** Null: not well-formed, or neither trusted nor of a policy. */
function mappingOf(message: FqdnMapping): NameMapping | null {
  const { name, address, expiresS, namespaceId, trusted, policyId } = message;
  if (name.length === 0 || name.length > nameBytesMax || address.length !== 16) return null;
  if (nameLengthAt(name, 0, name.length) !== name.length) return null;
  if (!trusted && policyId === 0) return null;
  return { name, address, expires: expiresS, namespaceId, scope: trusted ? 0 : policyId };
}
