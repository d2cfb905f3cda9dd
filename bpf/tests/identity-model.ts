// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Whom a packet belongs to, said a second time in plain code: from_pod and judge must give the same answer for any
 * frame (identity.fuzz.test.ts). Without policy: what is left is identity, steering and the host.
 */

import { portP } from './kernel-world.ts';

export type Side = 'OUTSIDE' | 'POD' | 'STRANGER';

export interface Endpoint {
  readonly id: number;
  readonly veth: number;
  /** The bridge, of a bridged one. */
  readonly bridge: number | null;
}

export interface World {
  readonly endpoints: ReadonlyMap<string, Endpoint>;
  /** Interfaces by index; any other one is outside. */
  readonly sides: ReadonlyMap<number, Side>;
  /** Addresses of nodes. */
  readonly nodes: ReadonlySet<string>;
  /** Addresses of this node's own interfaces. */
  readonly own: ReadonlySet<string>;
  readonly tunnelPorts: ReadonlySet<number>;
}

export interface JudgedPacket {
  readonly source: string;
  readonly destination: string;
  readonly kind: 'udp' | 'discovery';
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly isLocalIn: boolean;
  readonly isReply: boolean;
  readonly isSteered: boolean;
  readonly ifindex: number;
  /** 0: no bridge. */
  readonly bridgePort: number;
  readonly out: number;
}

/** The counter that judge moves; null: it passes and from_pod has counted it. */
export function judged(world: World, packet: JudgedPacket): string | null {
  const { isLocalIn, isReply } = packet;
  const entry = packet.bridgePort === 0 ? packet.ifindex : packet.bridgePort;
  const isHost = entry <= 1;
  const isUdp = packet.kind === 'udp';
  const source = world.endpoints.get(packet.source);
  const destination = world.endpoints.get(packet.destination);
  const isOurReply = !isLocalIn && entry === 0 && isUdp && packet.sourcePort === portP;
  const reason =
    (isHost ? null : unverified(world, packet, entry)) ?? astray(world, packet, isHost);
  if (reason !== null) return reason;
  if (isOurReply) return 'HOST';
  const isPort = isLocalIn && isUdp && packet.destinationPort === portP;
  if (packet.isSteered && !isHost) return isPort && source ? null : 'DROP_NOT_REDIRECTED';
  if (isPort && !isReply) return 'DROP_PORT';
  if (source === undefined && destination === undefined) return 'NO_ENDPOINT';
  if (source?.id === destination?.id) return 'FORWARDED';
  const isTunnel = isUdp && world.tunnelPorts.has(packet.destinationPort);
  const isNode = isLocalIn || (destination === undefined && world.nodes.has(packet.destination));
  if (source !== undefined && !isHost && isTunnel && isNode) return 'DROP_TUNNEL';
  const isHostActing = isReply ? isLocalIn : isHost;
  if (isHostActing && (isReply ? destination : source) === undefined) return 'HOST';
  return 'FORWARDED';
}

function sideOf(world: World, ifindex: number): Side {
  return world.sides.get(ifindex) ?? 'OUTSIDE';
}

/** Rules 3 and 6, of a packet that the host did not make. */
function unverified(world: World, packet: JudgedPacket, entry: number): string | null {
  const side = sideOf(world, entry);
  const source = world.endpoints.get(packet.source);
  if (source !== undefined) {
    return entry === source.veth && side === 'POD' ? null : 'DROP_UNVERIFIED';
  }
  if (side === 'STRANGER') return 'DROP_UNKNOWN_POD';
  const isForged = world.own.has(packet.source) && world.endpoints.has(packet.destination);
  if (isForged && !packet.isLocalIn && packet.kind === 'udp') return 'DROP_UNVERIFIED';
  // behind source translation an answer to the host bears a Service's address
  const mayPass = packet.kind === 'discovery' || (packet.isReply && packet.isLocalIn);
  return side === 'POD' && !mayPass ? 'DROP_UNVERIFIED' : null;
}

/** Rules 6 and 18: the interface by which a packet leaves. */
function astray(world: World, packet: JudgedPacket, isHost: boolean): string | null {
  if (packet.isLocalIn) return null;
  const destination = world.endpoints.get(packet.destination);
  if (destination === undefined) {
    return !isHost && sideOf(world, packet.out) === 'STRANGER' ? 'DROP_UNKNOWN_POD' : null;
  }
  const isWay = packet.out === destination.veth || packet.out === destination.bridge;
  return isWay && sideOf(world, destination.veth) === 'POD' ? null : 'DROP_UNKNOWN_POD';
}

/** The port that a frame comes from. */
export interface PodPort {
  readonly own: ReadonlySet<string>;
  /** Null: not known, or not compared because the veth is no bridge port. */
  readonly mac: string | null;
  /** Link-local addresses of the node. */
  readonly nodes: ReadonlySet<string>;
}

export interface Claim {
  readonly type: number;
  readonly mac: string;
  /** In units of 8 octets. */
  readonly length: number;
}

export type PodFrame = { readonly mac: string } & (
  | {
      readonly kind: 'arp';
      readonly senderMac: string;
      readonly sender: string;
      readonly target: string;
    }
  | { readonly kind: 'udp'; readonly source: string }
  | {
      readonly kind: 'icmp6';
      readonly source: string;
      readonly type: number;
      readonly hopLimit: number;
      readonly target: string;
      readonly options: readonly Claim[];
    }
);

const optionsMax = 4;

/** The counter of from_pod's drop, or null. ICMPv6 goes to a group. */
export function sentByPod(port: PodPort, frame: PodFrame): string | null {
  const isForeign = (mac: string): boolean => port.mac !== null && mac !== port.mac;
  if (frame.kind === 'arp') {
    if (isForeign(frame.mac) || isForeign(frame.senderMac)) return 'DROP_SPOOFED';
    const claimed = frame.sender === '0.0.0.0' ? frame.target : frame.sender;
    return port.own.has(claimed) ? null : 'DROP_SPOOFED';
  }
  const isNameless = frame.source === '::' || frame.source.startsWith('fe80::');
  if (frame.kind === 'icmp6') {
    const reason = discovery(port, frame, isForeign);
    if (reason !== null) return reason;
  } else if (isNameless) {
    return 'DROP_ND';
  }
  if (!isNameless && !port.own.has(frame.source)) return 'DROP_SPOOFED';
  return isForeign(frame.mac) ? 'DROP_SPOOFED' : null;
}

function discovery(
  port: PodPort,
  frame: PodFrame & { readonly kind: 'icmp6' },
  isForeign: (mac: string) => boolean,
): string | null {
  const { type, source, target, hopLimit } = frame;
  if ([130, 134, 137].includes(type)) return 'DROP_ND';
  if (type === 136 || (type === 135 && source === '::')) {
    if (target.startsWith('fe80::')) {
      if (port.nodes.has(target)) return 'DROP_ND';
    } else if (!port.own.has(target)) {
      return 'DROP_SPOOFED';
    }
  }
  const isNeighbour = [133, 135, 136].includes(type);
  for (const [i, option] of isNeighbour ? frame.options.entries() : []) {
    if (i === optionsMax || option.length === 0) return 'DROP_PARSE';
    if ([1, 2].includes(option.type) && isForeign(option.mac)) return 'DROP_SPOOFED';
  }
  if (source !== '::' && !source.startsWith('fe80::')) return null;
  const mayPass =
    (isNeighbour && hopLimit === 255) || ([131, 143].includes(type) && hopLimit === 1);
  if (!mayPass || (source === '::' && type === 136)) return 'DROP_ND';
  return port.nodes.has(source) ? 'DROP_ND' : null;
}
