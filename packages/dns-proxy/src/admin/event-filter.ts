// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Which stored events an observer wants, decided on their bytes: most are passed over undecoded. */

import { type Matcher } from '@tandem/core/dns/matcher';
import { compileMatcher } from '@tandem/core/dns/matcher-compile';
import { parseMatchPattern } from '@tandem/core/dns/pattern';
import { loadName, QueryView } from '@tandem/core/dns/query';
import { err, ok, type Result } from '@tandem/core/result';
import { tdEvent, tdVerdict } from '@tandem/datapath/abi.gen';
import { EventType, EventVerdict, type ObserveRequest } from '@tandem/proto/gen/messages';
import { dnsRecordField, dnsRecordHeaderBytes, dnsVerdict } from '../records/dns-event.ts';
import { readU16, readU32 } from '../records/dns-records.ts';
import { lossReasonOf } from '../records/loss-record.ts';
import type { EndpointNames } from '../store/endpoint-names.ts';
import {
  type EventStore,
  eventKindDns,
  eventKindDrop,
  eventKindLoss,
} from '../store/event-store.ts';

/** Exact matching of one name pattern, in the syntax of matchPattern. */
export class NameFilter {
  readonly #matcher: Matcher;
  readonly #view = new QueryView({ low: 0, high: 0 });

  private constructor(matcher: Matcher) {
    this.#matcher = matcher;
  }

  /** Null for the empty text: every name. Error: a sentence for the asker. */
  static parse(text: string): Result<NameFilter | null, string> {
    if (text === '') return ok(null);
    // As in rules.dns a bare star is any name at all.
    const pattern = parseMatchPattern(text, 'rules.dns');
    if (!pattern.ok) return err(pattern.error.message);
    // The pattern is the operator's own, so its seed is no secret.
    return ok(new NameFilter(compileMatcher([pattern.value], 0).matcher));
  }

  matches(bytes: Uint8Array, at: number, length: number): boolean {
    if (!loadName(this.#view, bytes, at, at + length)) return false;
    return this.#matcher.has(this.#matcher.match(this.#view), 0);
  }
}

/** Verdict of a query, as a filter names it. */
export function dnsEventVerdict(verdict: number): EventVerdict {
  if (verdict === dnsVerdict.allowed) return EventVerdict.EVENT_VERDICT_ALLOWED;
  if (verdict === dnsVerdict.denied) return EventVerdict.EVENT_VERDICT_DENIED;
  return EventVerdict.EVENT_VERDICT_ERROR;
}

/** Verdict of a drop event. */
export function dropEventVerdict(verdict: number): EventVerdict {
  return verdict === tdVerdict.ALLOW
    ? EventVerdict.EVENT_VERDICT_AUDIT
    : EventVerdict.EVENT_VERDICT_DENIED;
}

export class EventFilter {
  readonly #kind: number;
  readonly #verdict: EventVerdict;
  readonly #pod: string;
  readonly #name: NameFilter | null;
  readonly #endpoints: EndpointNames;

  private constructor(request: ObserveRequest, name: NameFilter | null, endpoints: EndpointNames) {
    this.#kind = kindOf(request.type);
    this.#verdict = request.verdict;
    this.#pod = request.pod;
    this.#name = name;
    this.#endpoints = endpoints;
  }

  static parse(request: ObserveRequest, endpoints: EndpointNames): Result<EventFilter, string> {
    if (request.pod !== '' && !/^[^/]+\/[^/]*$/.test(request.pod)) {
      return err('pod must be "namespace/pod", or "namespace/" for all of a namespace');
    }
    const name = NameFilter.parse(request.namePattern);
    return name.ok ? ok(new EventFilter(request, name.value, endpoints)) : name;
  }

  matches(store: EventStore, event: number): boolean {
    const kind = store.kindOf(event);
    const at = store.offsetOf(event);
    if (kind === eventKindLoss) return this.#matchesLoss(store, at);
    if (this.#kind !== 0 && this.#kind !== kind) return false;
    return kind === eventKindDns ? this.#matchesDns(store.bytes, at) : this.#matchesDrop(store, at);
  }

  /** The lost events are not known: they may match the filter. */
  #matchesLoss({ bytes }: EventStore, at: number): boolean {
    return this.#kind !== eventKindDns || lossReasonOf(bytes, at) === 'not-told';
  }

  #matchesDns(bytes: Uint8Array, at: number): boolean {
    if (!this.#isVerdict(dnsEventVerdict(bytes[at + dnsRecordField.verdict]!))) return false;
    if (this.#pod !== '') {
      const endpointId = readU32(bytes, at + dnsRecordField.endpointId);
      if (!isPod(this.#pod, this.#endpoints.podOf(endpointId))) return false;
    }
    if (this.#name === null) return true;
    const length = readU16(bytes, at + dnsRecordField.nameLength);
    return length > 0 && this.#name.matches(bytes, at + dnsRecordHeaderBytes, length);
  }

  #matchesDrop({ bytes }: EventStore, at: number): boolean {
    if (this.#name !== null) return false;
    if (!this.#isVerdict(dropEventVerdict(bytes[at + tdEvent.verdict]!))) return false;
    if (this.#pod === '') return true;
    const endpoints = this.#endpoints;
    return (
      isPod(this.#pod, endpoints.podOf(readU32(bytes, at + tdEvent.endpoint_id))) ||
      isPod(this.#pod, endpoints.podAt(bytes, at + tdEvent.source)) ||
      isPod(this.#pod, endpoints.podAt(bytes, at + tdEvent.destination))
    );
  }

  #isVerdict(verdict: EventVerdict): boolean {
    return this.#verdict === EventVerdict.EVENT_VERDICT_UNSPECIFIED || this.#verdict === verdict;
  }
}

/** Whether `pod` is what "namespace/pod" or "namespace/" asks for. */
export function isPod(wanted: string, pod: string): boolean {
  return wanted.endsWith('/') ? pod.startsWith(wanted) : pod === wanted;
}

function kindOf(type: EventType): number {
  if (type === EventType.EVENT_TYPE_DNS) return eventKindDns;
  return type === EventType.EVENT_TYPE_DROP ? eventKindDrop : 0;
}
