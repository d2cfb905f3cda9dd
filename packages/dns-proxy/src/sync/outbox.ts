// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Records that one process sends to the other: new ones, and, on request, the whole name cache. Everything here is bounded;
 * refusals of a bound are counted and reported. Pure: no time, no I/O.
 *
 *     records -> pile -> backlog (pieces, oldest lost first) -> in flight (numbered batches) -> acknowledged
 *                        pages of the cache, made when there is room ---^
 *
 * A batch gets its number when it is first sent and keeps its content until it is acknowledged, so that
 * it can be sent again on another stream.
 *
 * A batch says where the drop events began that were refused since the batch before, and must not reach
 * back to what was acknowledged: a new run of the other process would take for lost what the run before
 * it had.
 */

import type { FqdnCache } from '@tandem/core/fqdn/cache';
import { collectMappings, type FqdnMapping as NameMapping } from '@tandem/core/fqdn/merge';
import { Ring } from '@tandem/core/ring';
import type { FqdnMappingInit, SyncBatchInit } from '@tandem/proto/gen/messages';
import { syncBatchRecordsMax, syncRecordBytesMax } from '@tandem/proto/limits';
import { dropRecordBytes } from '../records/drop-event.ts';
import { lossReasonOf, positionOf, ringOf } from '../records/loss-record.ts';
import { backlogPiecesMax, batchesInFlightMax } from './limits.ts';

export type RecordKind = 'dns' | 'drop';

/** Where a drop event ended, and in which ring. */
interface DropPlace {
  readonly position: number;
  readonly ring: number;
}

/** Records of one kind, end to end. */
interface Piece {
  readonly kind: RecordKind;
  readonly bytes: Uint8Array;
  readonly events: number;
  /** Records among them that feed the name cache. */
  readonly mappings: number;
  /** The first drop event in it. */
  readonly since: DropPlace | null;
}

export interface NumberedBatch extends SyncBatchInit {
  readonly sequence: number;
}

export interface OutboxOptions {
  readonly cache: FqdnCache;
  readonly backlogPiecesMax?: number;
  readonly batchesInFlightMax?: number;
  readonly pieceBytesMax?: number;
  readonly pageMappingsMax?: number;
}

/** Records of one kind that wait to become a piece. */
class Pile {
  readonly kind: RecordKind;
  readonly #bytes: Uint8Array;
  length = 0;
  #events = 0;
  #mappings = 0;
  #since: DropPlace | null = null;

  constructor(kind: RecordKind, bytesMax: number) {
    this.kind = kind;
    this.#bytes = new Uint8Array(bytesMax);
  }

  hasRoom(length: number): boolean {
    return this.length + length <= this.#bytes.length;
  }

  add(
    bytes: Uint8Array,
    offset: number,
    length: number,
    isMapping: boolean,
    place: DropPlace | null,
  ): void {
    this.#since = firstOf(this.#since, place);
    for (let i = 0; i < length; i++) this.#bytes[this.length + i] = bytes[offset + i]!;
    this.length += length;
    this.#events += 1;
    if (isMapping) this.#mappings += 1;
  }

  take(): Piece {
    const bytes = this.#bytes.slice(0, this.length);
    const piece: Piece = {
      kind: this.kind,
      bytes,
      events: this.#events,
      mappings: this.#mappings,
      since: this.#since,
    };
    this.#since = null;
    this.length = 0;
    this.#events = 0;
    this.#mappings = 0;
    return piece;
  }
}

export class Outbox {
  /** Since construction: events lost to the backlog, and those among them that held mappings. */
  eventsLost = 0;
  mappingsLost = 0;
  /** Transfers of the whole cache that were begun. */
  transfers = 0;
  /** The other side has acknowledged the drop events up to here. */
  #acknowledgedDrops: DropPlace = { position: 0, ring: 0 };
  readonly #cache: FqdnCache;
  readonly #pieceBytesMax: number;
  readonly #pageMappingsMax: number;
  readonly #piles: Readonly<Record<RecordKind, Pile>>;
  readonly #backlog: Ring<Piece>;
  readonly #inFlight: Ring<NumberedBatch>;
  /** Batches in flight that were sent on the present stream. */
  #sentHere = 0;
  #lastSequence = 0;
  #ackedSequence = 0;
  #backlogBytes = 0;
  #inFlightBytes = 0;
  /** Reported with the next batch. */
  #unreportedEvents = 0;
  #unreportedMappings = 0;
  #unreportedDrops = 0;
  /** The first of #unreportedDrops. */
  #unreportedSince: DropPlace | null = null;
  /** Place in the cache where the transfer goes on; 0: none runs. */
  #transferPlace = 0;
  #isPageNext = false;

  constructor(options: OutboxOptions) {
    this.#cache = options.cache;
    this.#pieceBytesMax = options.pieceBytesMax ?? syncRecordBytesMax;
    this.#pageMappingsMax = options.pageMappingsMax ?? syncBatchRecordsMax;
    this.#piles = {
      dns: new Pile('dns', this.#pieceBytesMax),
      drop: new Pile('drop', this.#pieceBytesMax),
    };
    this.#backlog = new Ring({ capacity: options.backlogPiecesMax ?? backlogPiecesMax });
    this.#inFlight = new Ring({ capacity: options.batchesInFlightMax ?? batchesInFlightMax });
  }

  /** The number of the last batch that was given out, and of the last that was acknowledged. */
  get lastSequence(): number {
    return this.#lastSequence;
  }

  get ackedSequence(): number {
    return this.#ackedSequence;
  }

  /** Bytes of records that wait or are in flight. */
  get waitingBytes(): number {
    const { dns, drop } = this.#piles;
    return dns.length + drop.length + this.#backlogBytes + this.#inFlightBytes;
  }

  /** The position in `ring` up to which the other side has acknowledged drop events: 0 while it has none of this ring. */
  acknowledgedDropPosition(ring: number): number {
    return this.#acknowledgedDrops.ring === ring ? this.#acknowledgedDrops.position : 0;
  }

  get inFlight(): number {
    return this.#inFlight.size;
  }

  /** Nothing to send and nothing to wait for. */
  get isIdle(): boolean {
    return this.waitingBytes === 0 && this.#inFlight.size === 0 && this.#transferPlace === 0;
  }

  get isTransferring(): boolean {
    return this.#transferPlace !== 0;
  }

  /** Takes a copy of a record. `isMapping`: it taught our cache something. */
  add(kind: RecordKind, bytes: Uint8Array, at: number, length: number, isMapping: boolean): void {
    const pile = this.#piles[kind];
    const place = kind === 'drop' ? placeOf(bytes, at) : null;
    if (length > this.#pieceBytesMax) {
      this.#refuse(1, isMapping ? 1 : 0, kind, place);
      return;
    }
    if (!pile.hasRoom(length)) this.#seal(pile);
    pile.add(bytes, at, length, isMapping, place);
  }

  /** Counts a record that a limit refused to send. */
  limit(kind: RecordKind, bytes: Uint8Array, at: number): void {
    this.#refuse(1, 0, kind, kind === 'drop' ? placeOf(bytes, at) : null);
  }

  /** Puts the collected records into the next batches, if these are not behind already. */
  flush(): void {
    if (this.#backlog.size > 0 || this.#inFlight.size === this.#inFlight.capacity) return;
    if (this.#piles.dns.length > 0) this.#seal(this.#piles.dns);
    if (this.#piles.drop.length > 0) this.#seal(this.#piles.drop);
  }

  /** The whole cache is to be sent, from its start. */
  transferCache(): void {
    this.transfers += 1;
    this.#transferPlace = 1;
  }

  /** A new stream: batches in flight are sent again, in order, before anything else. */
  rewind(): void {
    this.#sentHere = 0;
  }

  /** The other side has applied all batches up to `sequence`. False: it can't have. */
  acknowledge(sequence: number): boolean {
    if (sequence > this.#lastSequence) return false;
    for (let batch = this.#inFlight.peek(); batch !== undefined; batch = this.#inFlight.peek()) {
      if (batch.sequence > sequence) break;
      this.#inFlight.shift();
      this.#inFlightBytes -= recordBytes(batch);
      this.#sentHere = Math.max(0, this.#sentHere - 1);
      this.#noteAcknowledged(batch.dropRecords);
    }
    this.#ackedSequence = Math.max(this.#ackedSequence, sequence);
    return true;
  }

  /**
   * The batch to send now; null when there is none, or too many wait to be acknowledged. `nowSeconds`:
   * boottime; mappings that expired are not sent.
   */
  next(nowSeconds: number): NumberedBatch | null {
    const again = this.#inFlight.peek(this.#sentHere);
    if (again !== undefined) {
      this.#sentHere += 1;
      return again;
    }
    if (this.#inFlight.size === this.#inFlight.capacity) return null;
    const content = this.#content(nowSeconds);
    if (content === null) return null;
    const since = this.#unreportedSince;
    this.#unreportedSince = null;
    const batch: NumberedBatch = {
      ...content,
      sequence: ++this.#lastSequence,
      eventsLost: this.#unreportedEvents,
      mappingsLost: this.#unreportedMappings,
      dropsLost: this.#unreportedDrops,
      dropsSince: since?.position ?? 0,
      dropsRing: since?.ring ?? 0,
    };
    this.#unreportedEvents = 0;
    this.#unreportedDrops = 0;
    this.#unreportedMappings = 0;
    this.#inFlight.push(batch);
    this.#inFlightBytes += recordBytes(batch);
    this.#sentHere += 1;
    return batch;
  }

  /** Pieces and pages take turns, so that neither waits for the end of the other. */
  #content(nowSeconds: number): SyncBatchInit | null {
    const hasPage = this.#transferPlace !== 0;
    if (hasPage && (this.#isPageNext || this.#backlog.size === 0)) {
      this.#isPageNext = false;
      return this.#page(nowSeconds);
    }
    this.#isPageNext = true;
    const piece = this.#backlog.shift();
    if (piece === undefined) return null;
    this.#backlogBytes -= piece.bytes.length;
    return piece.kind === 'dns' ? { dnsRecords: piece.bytes } : { dropRecords: piece.bytes };
  }

  #page(nowSeconds: number): SyncBatchInit {
    const mappings: NameMapping[] = [];
    this.#transferPlace = collectMappings(
      this.#cache,
      nowSeconds,
      this.#transferPlace,
      this.#pageMappingsMax,
      mappings,
    );
    return { mappings: mappings.map(mappingMessage), cacheEnd: this.#transferPlace === 0 };
  }

  #refuse(events: number, mappings: number, kind: RecordKind, since: DropPlace | null): void {
    this.eventsLost += events;
    this.mappingsLost += mappings;
    this.#unreportedEvents += events;
    this.#unreportedMappings += mappings;
    if (kind === 'drop') this.#unreportedDrops += events;
    this.#unreportedSince = firstOf(this.#unreportedSince, since);
  }

  #noteAcknowledged(records: Uint8Array | null | undefined): void {
    if (records === undefined || records === null) return;
    for (let at = 0; at + dropRecordBytes <= records.length; at += dropRecordBytes) {
      const place = placeOf(records, at);
      if (place !== null) this.#acknowledgedDrops = lastOf(this.#acknowledgedDrops, place);
    }
  }

  #seal(pile: Pile): void {
    const lost = this.#backlog.size === this.#backlog.capacity ? this.#backlog.shift() : undefined;
    if (lost !== undefined) {
      this.#backlogBytes -= lost.bytes.length;
      this.#refuse(lost.events, lost.mappings, lost.kind, lost.since);
    }
    const piece = pile.take();
    this.#backlogBytes += piece.bytes.length;
    this.#backlog.push(piece);
  }
}

/** Null: a record of no position, as one that reports a loss. */
function placeOf(bytes: Uint8Array, at: number): DropPlace | null {
  const position = positionOf(bytes, at);
  if (position === 0 || lossReasonOf(bytes, at) !== null) return null;
  return { position, ring: ringOf(bytes, at) };
}

/** The earlier one; of two rings, that of the newer, which has the higher id. */
function firstOf(a: DropPlace | null, b: DropPlace | null): DropPlace | null {
  if (a === null || b === null) return a ?? b;
  if (a.ring !== b.ring) return a.ring > b.ring ? a : b;
  return a.position <= b.position ? a : b;
}

/** The later one in a ring; `next` in another ring, to which the programs have changed, be it that of an earlier version. */
function lastOf(former: DropPlace, next: DropPlace): DropPlace {
  return former.ring === next.ring && former.position >= next.position ? former : next;
}

function recordBytes(batch: NumberedBatch): number {
  return (batch.dnsRecords?.length ?? 0) + (batch.dropRecords?.length ?? 0);
}

function mappingMessage(mapping: NameMapping): FqdnMappingInit {
  const { name, address, expires, namespaceId, scope } = mapping;
  const trusted = scope === 0;
  return { name, address, expiresS: expires, namespaceId, trusted, policyId: scope };
}
