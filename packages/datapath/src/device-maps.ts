// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The maps that say on which side of the node a device is (ADR 12). Entries of `pod_devices` and
 * `trusted_devices` are removed by the kernel when their interface goes, so a map is read before it is written.
 */

import type { BpfMap } from '@tandem/bpf-loader-node/map';
import type { Ifindex } from '@tandem/core/ids';
import { tdDeviceName, tdPodMac } from './abi.gen.ts';

/** Facts of the node's devices that no pod can write. */
export interface NodeDevices {
  /** Indices of interfaces that are no pod's though they could be one's: a veth that is an uplink. */
  readonly trusted: readonly Ifindex[];
  /** Names of bridges whose ports are pods', whether they are there yet or not. */
  readonly podBridges: readonly string[];
  /** UDP ports at which this node or another takes packets out of a tunnel. */
  readonly tunnelPorts: readonly number[];
}

type MapOf = (name: 'trusted_devices' | 'pod_bridges' | 'tunnel_ports') => BpfMap;

/**
 * `removes`: entries that are not in `devices` are removed.
 * @returns what was not written because it is gone or the map is full, in words
 */
export function writeNodeDevices(
  mapOf: MapOf,
  devices: NodeDevices,
  removes: boolean,
): readonly string[] {
  const one = word(1);
  return [
    ...writeSet(
      mapOf('trusted_devices'),
      devices.trusted.map((ifindex) => [word(ifindex), word(ifindex)]),
      (key) => `interface ${readWord(key)}`,
      removes,
    ),
    ...writeSet(
      mapOf('pod_bridges'),
      devices.podBridges.map((name) => [deviceName(name), one]),
      (key) => `bridge ${nameOfDevice(key)}`,
      removes,
    ),
    ...writeSet(
      mapOf('tunnel_ports'),
      devices.tunnelPorts.map((port) => [word(port), one]),
      (key) => `tunnel port ${readWord(key)}`,
      removes,
    ),
  ];
}

/** Names of the bridges that the datapath takes for bridges of pods. */
export function readPodBridges(map: BpfMap): readonly string[] {
  return [...map.entries()].map(([key]) => nameOfDevice(key));
}

function nameOfDevice(key: Uint8Array): string {
  return Buffer.from(key).toString('latin1').replaceAll('\0', '');
}

/** Adds before it removes: an interface that stays trusted is in the map all the time. */
function writeSet(
  map: BpfMap,
  wanted: readonly (readonly [key: Uint8Array, value: Uint8Array])[],
  nameOf: (key: Uint8Array) => string,
  removes: boolean,
): string[] {
  const problems: string[] = [];
  const present = new Set([...map.entries()].map(([key]) => keyText(key)));
  const kept = new Set(wanted.map(([key]) => keyText(key)));
  for (const [key, value] of wanted) {
    if (present.has(keyText(key))) continue;
    try {
      map.update(key, value);
    } catch (error) {
      problems.push(`${nameOf(key)}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  if (!removes) return problems;
  for (const text of present) if (!kept.has(text)) map.delete(Buffer.from(text, 'latin1'));
  return problems;
}

/** The Ethernet address that the pod behind this bridge port may claim; null: not to be compared. */
export function writePodMac(map: BpfMap, ifindex: Ifindex, mac: Uint8Array | null): void {
  if (mac === null) {
    map.delete(word(ifindex));
    return;
  }
  const value = new Uint8Array(tdPodMac.size);
  value.set(mac.subarray(0, 6), tdPodMac.mac);
  map.update(word(ifindex), value);
}

const keyText = (key: Uint8Array): string =>
  Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString('latin1');

export function word(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

export function readWord(bytes: Uint8Array): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
}

/** As the kernel keeps it: 15 bytes at most, padded with zeros. */
function deviceName(name: string): Uint8Array {
  const bytes = new Uint8Array(tdDeviceName.size);
  bytes.set(new TextEncoder().encode(name).subarray(0, tdDeviceName.size - 1));
  return bytes;
}
