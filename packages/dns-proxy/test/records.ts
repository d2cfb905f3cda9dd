// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Records of the DNS worker and of the kernel, laid out by hand. */

import { nameFromText } from '@tandem/core/dns/name';
import { parseAddress } from '@tandem/core/net/ip';
import { tdCounter, tdEvent, tdVerdict } from '@tandem/datapath/abi.gen';
import {
  dnsRecordAddressBytes,
  dnsRecordHeaderBytes,
  dnsVerdict,
  dnsRecordField as field,
} from '../src/records/dns-event.ts';

export const address = (text: string): Uint8Array => {
  const bytes = parseAddress(text);
  if (bytes === null) throw new TypeError(text);
  return bytes;
};

export const wireName = (text: string): Uint8Array => {
  const bytes = nameFromText(text);
  if (bytes === null) throw new TypeError(text);
  return bytes;
};

export interface DnsRecordSpec {
  readonly name: string;
  readonly verdict?: number;
  /** Index of the member that answered; default the proxy's. */
  readonly member?: number;
  readonly flags?: number;
  readonly timeUs?: number;
  readonly endpointId?: number;
  readonly policyId?: number;
  readonly namespaceId?: number;
  readonly addresses?: readonly (readonly [address: string, expires: number])[];
}

export function dnsRecord(spec: DnsRecordSpec): Uint8Array {
  const name = wireName(spec.name);
  const addresses = spec.addresses ?? [];
  const length = dnsRecordHeaderBytes + name.length + addresses.length * dnsRecordAddressBytes;
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, length, true);
  bytes[field.verdict] = spec.verdict ?? dnsVerdict.allowed;
  bytes[5] = 17;
  bytes[field.member] = spec.member ?? 1;
  bytes[field.flags] = spec.flags ?? 0;
  view.setFloat64(field.timeUs, spec.timeUs ?? 1e6, true);
  view.setUint32(field.endpointId, spec.endpointId ?? 7, true);
  view.setUint32(20, 250, true);
  bytes.set(address('10.0.0.7'), 24);
  bytes.set(address('10.96.0.10'), 40);
  view.setUint16(56, 40_000, true);
  view.setUint16(field.nameLength, name.length, true);
  bytes[field.addressCount] = addresses.length;
  view.setUint16(62, 1, true);
  view.setUint32(field.policyId, spec.policyId ?? 70, true);
  view.setUint32(field.namespaceId, spec.namespaceId ?? 3, true);
  bytes.set(name, dnsRecordHeaderBytes);
  addresses.forEach(([text, expires], i) => {
    const at = dnsRecordHeaderBytes + name.length + i * dnsRecordAddressBytes;
    bytes.set(address(text), at);
    view.setUint32(at + 16, expires, true);
  });
  return bytes;
}

export interface DropRecordSpec {
  readonly ruleId?: number;
  readonly timeNs?: number;
  readonly endpointId?: number;
  readonly source?: string;
  readonly destination?: string;
  readonly reason?: number;
  readonly verdict?: number;
}

export function dropRecord(spec: DropRecordSpec = {}): Uint8Array {
  const bytes = new Uint8Array(tdEvent.size);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(tdEvent.time_ns, BigInt(spec.timeNs ?? 1e9), true);
  view.setUint32(tdEvent.endpoint_id, spec.endpointId ?? 7, true);
  bytes.set(address(spec.source ?? '10.0.0.7'), tdEvent.source);
  bytes.set(address(spec.destination ?? '192.0.2.1'), tdEvent.destination);
  view.setUint16(tdEvent.source_port, 40_000, true);
  view.setUint16(tdEvent.destination_port, 443, true);
  bytes[tdEvent.protocol] = 6;
  bytes[tdEvent.direction] = 1;
  bytes[tdEvent.verdict] = spec.verdict ?? tdVerdict.DENY;
  bytes[tdEvent.reason] = spec.reason ?? tdCounter.DROP_NO_MATCH;
  view.setUint32(tdEvent.rule_id, spec.ruleId ?? 0, true);
  bytes[tdEvent.hook] = 3;
  bytes[tdEvent.family] = 4;
  return bytes;
}
