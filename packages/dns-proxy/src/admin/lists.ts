// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The answers to `ListEndpoints` and `ListFqdn`, in pages that are made as fast as the client reads. */

import { FqdnRecord } from '@tandem/core/fqdn/mapping';
import { formatAddress } from '@tandem/core/net/ip';
import { tdEndpointFlag } from '@tandem/datapath/abi.gen';
import type {
  EndpointEntryInit,
  FqdnEntryInit,
  ListEndpointsResponseInit,
  ListFqdnResponseInit,
} from '@tandem/proto/gen/messages';
import { fqdnEntrySelectorsMax, listPageRecordsMax } from '@tandem/proto/limits';
import type { NamedEndpoint } from '../store/endpoint-names.ts';
import type { AdminContext, InputDiagnostic } from './context.ts';
import { isPod, type NameFilter } from './event-filter.ts';

/** "enforce-egress", ... of the bits of td_endpoint_flags. */
function flagNames(flags: number): string[] {
  return Object.entries(tdEndpointFlag)
    .filter(([, bit]) => (flags & bit) !== 0)
    .map(([name]) => name.toLowerCase().replaceAll('_', '-'));
}

/** Endpoints of the kernel, and pods of the policy without one: "not-attached". */
export function* listEndpoints(
  context: AdminContext,
  pod: string,
): Generator<ListEndpointsResponseInit, void, undefined> {
  const { endpoints: names } = context.store;
  const entries: EndpointEntryInit[] = [];
  const attached = new Set<string>();
  const interfaces = context.interfaceNames();
  for (const endpoint of context.kernel.endpoints()) {
    attached.add(formatAddress(endpoint.address));
    const named = names.at(endpoint.address);
    entries.push({
      endpointId: endpoint.endpointId,
      address: endpoint.address,
      namespace: named?.namespace ?? '',
      pod: named?.pod ?? '',
      policyId: endpoint.policyId,
      flags: endpoint.flags,
      flagNames: flagNames(endpoint.flags),
      vethIfindex: endpoint.vethIfindex,
      vethName: interfaces.get(endpoint.vethIfindex) ?? '',
      namespaceId: endpoint.namespaceId,
      classId: endpoint.classId,
    });
  }
  const problems = interfaceProblems(context.diagnostics());
  for (const named of names.endpoints) {
    if (attached.has(formatAddress(named.address))) continue;
    entries.push(notAttached(named, problems.get(`Pod/${named.namespace}/${named.pod}`) ?? ''));
  }
  const wanted = entries
    .filter((entry) => pod === '' || isPod(pod, `${entry.namespace}/${entry.pod}`))
    .sort(byPod);
  for (let at = 0; at < wanted.length; at += listPageRecordsMax) {
    yield { endpoints: wanted.slice(at, at + listPageRecordsMax) };
  }
}

function notAttached(named: NamedEndpoint, problem: string): EndpointEntryInit {
  const { endpointId, address, namespace, pod, policyId, namespaceId } = named;
  const identity = { endpointId, address, namespace, pod, policyId, namespaceId };
  return { ...identity, flagNames: ['not-attached'], problem };
}

const interfaceCodes: ReadonlySet<string> = new Set(['interface-not-found', 'interface-refused']);

/** By subject, why pods have no interface. */
function interfaceProblems(diagnostics: readonly InputDiagnostic[]): ReadonlyMap<string, string> {
  return new Map(
    diagnostics
      .filter(({ code }) => interfaceCodes.has(code))
      .map(({ code, subject, message }) => [subject, `${code}: ${message}`]),
  );
}

function byPod(a: EndpointEntryInit, b: EndpointEntryInit): number {
  const left = `${a.namespace}/${a.pod}`;
  const right = `${b.namespace}/${b.pod}`;
  if (left !== right) return left < right ? -1 : 1;
  return Buffer.compare(a.address as Uint8Array, b.address as Uint8Array);
}

/** Places of the cache that are looked at for one page: an unwelcome filter must not hold the loop. */
const placesPerPage = 16 * listPageRecordsMax;

/** The name cache. A page may be empty: it lets others have their turn. */
export function* listFqdn(
  context: AdminContext,
  filter: NameFilter | null,
): Generator<ListFqdnResponseInit, void, undefined> {
  const { cache } = context.store;
  const record = new FqdnRecord();
  let place = cache.nextEntry(1);
  while (place !== 0) {
    const now = Math.floor(context.clock.boottimeSeconds());
    const entries: FqdnEntryInit[] = [];
    for (let looked = 0; place !== 0 && looked < placesPerPage; looked++) {
      if (entries.length === listPageRecordsMax) break;
      cache.read(place, record);
      if (filter === null || filter.matches(record.name, 0, record.nameLength)) {
        const selectors = context.kernel.selectorsOf(record.address, fqdnEntrySelectorsMax);
        entries.push(fqdnEntry(record, now, selectors, context.inUse.until(record.address, 0)));
      }
      place = cache.nextEntry(place + 1);
    }
    yield { entries };
  }
}

function fqdnEntry(
  record: FqdnRecord,
  now: number,
  selectorIds: number[],
  inUseUntil: number,
): FqdnEntryInit {
  const isTrusted = record.scope === 0;
  return {
    mapping: {
      name: record.name.slice(0, record.nameLength),
      address: record.address.slice(),
      expiresS: record.expires,
      namespaceId: record.namespaceId,
      trusted: isTrusted,
      policyId: record.scope,
    },
    expiresInS: record.expires - now,
    selectorIds,
    inUseForS: Math.max(0, inUseUntil - now),
  };
}
