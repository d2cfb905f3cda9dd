// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Keys and values of the agent's maps, byte for byte as abi.h lays them out. */

import type { EndpointId, Ifindex, NamespaceId, PolicyId } from '@tandem/core/ids';
import {
  TD_VERDICT_DECIDED,
  tdClass,
  tdClassKey,
  tdDnsServer,
  tdDnsServerKey,
  tdEndpoint,
  tdPolicy,
  tdPolicyKey,
} from './abi.gen.ts';

export interface EndpointValue {
  readonly endpointId: EndpointId;
  readonly policyId: PolicyId;
  readonly vethIfindex: Ifindex;
  readonly l3Ifindex: Ifindex;
  readonly classId: number;
  readonly flags: number;
  readonly namespaceId: NamespaceId;
  /** Ethernet address of the bridge: 6 bytes; zero unless the veth is a bridge port. */
  readonly bridgeMac: Uint8Array;
  /** Ethernet address of the pod: 6 bytes; zero if it is not known, or the veth is not a bridge port. */
  readonly mac: Uint8Array;
}

export interface Entry {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
}

/** `address`: 16 bytes. */
export function encodeEndpoint(address: Uint8Array, endpoint: EndpointValue): Entry {
  const value = new Uint8Array(tdEndpoint.size);
  const view = new DataView(value.buffer);
  view.setUint32(tdEndpoint.id, endpoint.endpointId, true);
  view.setUint32(tdEndpoint.policy_id, endpoint.policyId, true);
  view.setUint32(tdEndpoint.veth_ifindex, endpoint.vethIfindex, true);
  view.setUint32(tdEndpoint.l3_ifindex, endpoint.l3Ifindex, true);
  view.setUint32(tdEndpoint.class_id, endpoint.classId, true);
  view.setUint32(tdEndpoint.flags, endpoint.flags, true);
  view.setUint32(tdEndpoint.namespace_id, endpoint.namespaceId, true);
  value.set(endpoint.bridgeMac.subarray(0, 6), tdEndpoint.bridge_mac);
  value.set(endpoint.mac.subarray(0, 6), tdEndpoint.mac);
  return { key: Uint8Array.from(address), value };
}

export function decodeEndpoint(value: Uint8Array): EndpointValue {
  const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
  return {
    endpointId: view.getUint32(tdEndpoint.id, true),
    policyId: view.getUint32(tdEndpoint.policy_id, true) as PolicyId,
    vethIfindex: view.getUint32(tdEndpoint.veth_ifindex, true),
    l3Ifindex: view.getUint32(tdEndpoint.l3_ifindex, true),
    classId: view.getUint32(tdEndpoint.class_id, true),
    flags: view.getUint32(tdEndpoint.flags, true),
    namespaceId: view.getUint32(tdEndpoint.namespace_id, true) as NamespaceId,
    bridgeMac: value.slice(tdEndpoint.bridge_mac, tdEndpoint.bridge_mac + 6),
    mac: value.slice(tdEndpoint.mac, tdEndpoint.mac + 6),
  };
}

/** `bits`: 0..128, an IPv4 prefix is 96 + n. */
export function encodeClass(
  address: Uint8Array,
  bits: number,
  classId: number,
  flags: number,
): Entry {
  const key = new Uint8Array(tdClassKey.size);
  putWord(key, tdClassKey.prefixlen, bits);
  // No view of it: that would take the buffer of each address of the cluster out of the heap, at ten times its size.
  for (let i = 0; i < addressBytes; i++) key[tdClassKey.addr + i] = address[i]!;
  const value = new Uint8Array(tdClass.size);
  putWord(value, tdClass.id, classId);
  putWord(value, tdClass.flags, flags);
  return { key, value };
}

const addressBytes = 16;

/** As the kernel of this machine has it, which is little-endian. */
function putWord(bytes: Uint8Array, at: number, word: number): void {
  bytes[at] = word;
  bytes[at + 1] = word >>> 8;
  bytes[at + 2] = word >>> 16;
  bytes[at + 3] = word >>> 24;
}

export interface PolicyValue {
  readonly policyId: PolicyId;
  readonly peer: number;
  readonly direction: number;
  readonly protocol: number;
  readonly port: number;
  readonly prefixLength: number;
  readonly verdict: number;
  readonly ruleId: number;
  readonly isDecided?: true;
}

export function encodePolicy(entry: PolicyValue): Entry {
  const key = new Uint8Array(tdPolicyKey.size);
  putWord(key, tdPolicyKey.prefixlen, entry.prefixLength);
  putWord(key, tdPolicyKey.policy_id, entry.policyId);
  putWord(key, tdPolicyKey.peer, entry.peer);
  key[tdPolicyKey.direction] = entry.direction;
  key[tdPolicyKey.protocol] = entry.protocol;
  key[tdPolicyKey.port_be] = entry.port >>> 8;
  key[tdPolicyKey.port_be + 1] = entry.port;
  const value = new Uint8Array(tdPolicy.size);
  const decided = entry.isDecided === true ? TD_VERDICT_DECIDED : 0;
  value[tdPolicy.verdict] = entry.verdict | decided;
  putWord(value, tdPolicy.rule_id, entry.ruleId);
  return { key, value };
}

export function encodeDnsServer(
  policyId: PolicyId,
  server: Uint8Array,
  protocol: number,
  ruleSetId: number,
): Entry {
  const key = new Uint8Array(tdDnsServerKey.size);
  const keyView = new DataView(key.buffer);
  keyView.setUint32(tdDnsServerKey.policy_id, policyId, true);
  key.set(server.subarray(0, 16), tdDnsServerKey.server);
  keyView.setUint8(tdDnsServerKey.protocol, protocol);
  const value = new Uint8Array(tdDnsServer.size);
  new DataView(value.buffer).setUint32(tdDnsServer.rule_set_id, ruleSetId, true);
  return { key, value };
}
