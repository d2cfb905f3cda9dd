// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * One observer: a place in the event store that moves as fast as the client reads. An event that is overwritten
 * before it is read is counted and reported with the next event.
 */

import type { ServerWritableStream } from '@grpc/grpc-js';
import type { ObserveRequest, ObserveResponseInit } from '@tandem/proto/gen/messages';
import { StreamLink } from '@tandem/runtime/stream-link';
import { dnsRecordField } from '../records/dns-event.ts';
import { EventCursor, eventKindDns } from '../store/event-store.ts';
import type { NodeStore } from '../store/node-store.ts';
import type { EventFilter } from './event-filter.ts';
import { type EventSurroundings, eventMessage } from './event-message.ts';
import { observeStepEvents } from './limits.ts';

export type ObserveCall = ServerWritableStream<ObserveRequest, ObserveResponseInit>;

export interface ObserverOptions extends EventSurroundings {
  readonly filter: EventFilter;
  readonly call: ObserveCall;
  readonly onEnd: () => void;
}

export class Observer {
  readonly #o: ObserverOptions;
  readonly #link: StreamLink<ObserveResponseInit>;
  readonly #cursor: EventCursor;
  /** Where an observer that does not follow ends. */
  readonly #end: number;
  /** The past events that were asked for, by time, and how many of them were looked at. */
  readonly #past: readonly PastEvent[];
  #pastLooked = 0;
  #unsubscribe: (() => void) | null = null;
  #isScheduled = false;
  #isOver = false;
  #lost = 0;

  constructor(options: ObserverOptions) {
    this.#o = options;
    const { store, call } = options;
    const { request } = call;
    const { sinceS } = request;
    const oldestUs = sinceS === 0 ? -Infinity : (options.clock.boottimeSeconds() - sinceS) * 1e6;
    this.#past = pastEvents(options, oldestUs);
    this.#link = new StreamLink(call);
    this.#cursor = new EventCursor(store.events);
    this.#end = request.follow ? Infinity : store.events.next;
    this.#link.onDrain = () => this.#pump();
    const stop = (): void => this.#stop();
    call.on('cancelled', stop);
    call.on('close', stop);
    call.on('error', stop);
    if (request.follow) this.#unsubscribe = store.events.subscribe(() => this.#pump());
    this.#pump();
  }

  #pump(): void {
    const { store, filter } = this.#o;
    const cursor = this.#cursor;
    for (let looked = 0; looked < observeStepEvents; looked++) {
      if (this.#isOver || !this.#link.isWritable) return;
      if (this.#pastLooked < this.#past.length) {
        const { event, count } = this.#past[this.#pastLooked++] as PastEvent;
        if (event >= store.events.first) this.#send(event);
        else this.#lost += count;
        continue;
      }
      if (!cursor.next() || cursor.event >= this.#end) {
        if (this.#end !== Infinity) this.#finish();
        return;
      }
      this.#lost += cursor.takeLost();
      if (filter.matches(store.events, cursor.event)) this.#send(cursor.event);
    }
    this.#pumpSoon();
  }

  #send(event: number): void {
    const message = eventMessage(this.#o, event);
    if (message === null) return;
    this.#link.send({ ...message, lost: this.#lost });
    this.#lost = 0;
  }

  #pumpSoon(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      this.#pump();
    });
  }

  #finish(): void {
    this.#link.close();
    this.#stop();
  }

  #stop(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#unsubscribe?.();
    this.#o.onEnd();
  }
}

/**
 * The past events that were asked for, none older than `oldestUs`, by time: those of the other process
 * come late, after its absence much later, and their order is not their age.
 */
interface PastEvent {
  readonly event: number;
  readonly timeUs: number;
  /** How many events it stands for. */
  readonly count: number;
}

function pastEvents({ store, filter, call }: ObserverOptions, oldestUs: number): PastEvent[] {
  const { events } = store;
  const { last, sinceS } = call.request;
  if (last === 0 && sinceS === 0) return [];
  const past: PastEvent[] = [];
  for (let event = events.first; event < events.next; event++) {
    if (!filter.matches(events, event)) continue;
    const at = timeUs(store, event);
    if (at < oldestUs) continue;
    past.push({ event, timeUs: at, count: events.sumBefore(event + 1) - events.sumBefore(event) });
  }
  past.sort((left, right) => left.timeUs - right.timeUs);
  return past.slice(last === 0 ? 0 : -last);
}

/** Boottime, microseconds. */
function timeUs({ events }: NodeStore, event: number): number {
  const at = events.offsetOf(event);
  const view = new DataView(events.bytes.buffer, events.bytes.byteOffset + at, 16);
  return events.kindOf(event) === eventKindDns
    ? view.getFloat64(dnsRecordField.timeUs, true)
    : Number(view.getBigUint64(0, true)) / 1000;
}
