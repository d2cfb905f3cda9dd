// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Keys and values of the agent's maps, byte for byte as abi.h lays them out. */

import {
  tdClass,
  tdClassKey,
  tdDnsServer,
  tdDnsServerKey,
  tdEndpoint,
  tdPolicy,
  tdPolicyKey,
} from './abi.gen.ts';

export interface EndpointValue {
  readonly endpointId: number;
  readonly policyId: number;
  readonly vethIfindex: number;
  readonly l3Ifindex: number;
  readonly classId: number;
  readonly flags: number;
  readonly namespaceId: number;
  /** Of the bridge: 6 bytes; zero unless the veth is a bridge port. */
  readonly bridgeMac: Uint8Array;
  /** Of the pod: 6 bytes; zero where it is not known, or the veth is no bridge port. */
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
    policyId: view.getUint32(tdEndpoint.policy_id, true),
    vethIfindex: view.getUint32(tdEndpoint.veth_ifindex, true),
    l3Ifindex: view.getUint32(tdEndpoint.l3_ifindex, true),
    classId: view.getUint32(tdEndpoint.class_id, true),
    flags: view.getUint32(tdEndpoint.flags, true),
    namespaceId: view.getUint32(tdEndpoint.namespace_id, true),
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
  new DataView(key.buffer).setUint32(tdClassKey.prefixlen, bits, true);
  key.set(address.subarray(0, 16), tdClassKey.addr);
  const value = new Uint8Array(tdClass.size);
  const view = new DataView(value.buffer);
  view.setUint32(tdClass.id, classId, true);
  view.setUint32(tdClass.flags, flags, true);
  return { key, value };
}

export interface PolicyValue {
  readonly policyId: number;
  readonly peer: number;
  readonly direction: number;
  readonly protocol: number;
  readonly port: number;
  readonly prefixLength: number;
  readonly verdict: number;
  readonly ruleId: number;
}

export function encodePolicy(entry: PolicyValue): Entry {
  const key = new Uint8Array(tdPolicyKey.size);
  const keyView = new DataView(key.buffer);
  keyView.setUint32(tdPolicyKey.prefixlen, entry.prefixLength, true);
  keyView.setUint32(tdPolicyKey.policy_id, entry.policyId, true);
  keyView.setUint32(tdPolicyKey.peer, entry.peer, true);
  keyView.setUint8(tdPolicyKey.direction, entry.direction);
  keyView.setUint8(tdPolicyKey.protocol, entry.protocol);
  keyView.setUint16(tdPolicyKey.port_be, entry.port, false);
  const value = new Uint8Array(tdPolicy.size);
  const view = new DataView(value.buffer);
  view.setUint8(tdPolicy.verdict, entry.verdict);
  view.setUint32(tdPolicy.rule_id, entry.ruleId, true);
  return { key, value };
}

export function encodeDnsServer(
  policyId: number,
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
