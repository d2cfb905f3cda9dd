// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Neighbour Discovery messages (RFC 4861) as descriptions for `buildPacket`; hop limit 255. */

import { addressBytes, macBytes } from './address.ts';
import { concatBytes } from './packet.ts';
import type { PacketSpec } from './packet-spec.ts';

/** ICMPv6 types that Neighbour Discovery uses. */
export const ndpType = {
  routerSolicitation: 133,
  routerAdvertisement: 134,
  neighbourSolicitation: 135,
  neighbourAdvertisement: 136,
  redirect: 137,
} as const;

export interface NdpAddresses {
  readonly source: string;
  readonly destination: string;
  readonly sourceMac: string;
  readonly destinationMac: string;
}

export function neighbourSolicitation(at: NdpAddresses, target: string): PacketSpec {
  const body = concatBytes([addressBytes(target), linkLayerOption(1, at.sourceMac)]);
  return message(at, ndpType.neighbourSolicitation, 0, body);
}

/** With the flags Solicited and Override set. */
export function neighbourAdvertisement(at: NdpAddresses, target: string): PacketSpec {
  const body = concatBytes([addressBytes(target), linkLayerOption(2, at.sourceMac)]);
  return message(at, ndpType.neighbourAdvertisement, 0x60000000, body);
}

export function routerSolicitation(at: NdpAddresses): PacketSpec {
  return message(at, ndpType.routerSolicitation, 0, linkLayerOption(1, at.sourceMac));
}

/** A prefix that a router advertisement tells of. */
export interface AdvertisedPrefix {
  readonly prefix: string;
  readonly length: number;
  /** To be reached at the link itself, there with an address of one's own (SLAAC), or through the router (RFC 4191). */
  readonly by: 'link' | 'own address' | 'router';
}

/** Makes the receiver take the sender as its default router for `lifetimeSeconds`, and as the way to `prefixes`. */
export function routerAdvertisement(
  at: NdpAddresses,
  lifetimeSeconds: number,
  prefixes: readonly AdvertisedPrefix[] = [],
): PacketSpec {
  const body = concatBytes([
    new Uint8Array(8),
    linkLayerOption(1, at.sourceMac),
    ...prefixes.map(prefixOption),
  ]);
  return message(at, ndpType.routerAdvertisement, 0x40000000 + lifetimeSeconds, body);
}

/** Tells the receiver to reach `destination` through `target`. */
export function redirect(at: NdpAddresses, target: string, destination: string): PacketSpec {
  const body = concatBytes([addressBytes(target), addressBytes(destination)]);
  return message(at, ndpType.redirect, 0, body);
}

function message(at: NdpAddresses, type: number, rest: number, payload: Uint8Array): PacketSpec {
  return {
    ethernet: { source: at.sourceMac, destination: at.destinationMac },
    ip: { source: at.source, destination: at.destination, ttl: 255 },
    icmp: { type, rest },
    payload,
  };
}

function linkLayerOption(type: 1 | 2, mac: string): Uint8Array {
  return concatBytes([Uint8Array.of(type, 1), macBytes(mac)]);
}

const prefixSeconds = 3600;

/** Prefix Information with the flags On-Link and Autonomous, or Route Information. */
function prefixOption({ prefix, length, by }: AdvertisedPrefix): Uint8Array {
  const isRoute = by === 'router';
  const option = new Uint8Array(isRoute ? 24 : 32);
  const view = new DataView(option.buffer);
  option.set([isRoute ? 24 : 3, option.length / 8, length]);
  option[3] = { link: 0x80, 'own address': 0xc0, router: 0 }[by];
  view.setUint32(4, prefixSeconds);
  if (!isRoute) view.setUint32(8, prefixSeconds);
  option.set(addressBytes(prefix), option.length - 16);
  return option;
}
