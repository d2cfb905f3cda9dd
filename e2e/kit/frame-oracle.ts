// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Where a frame of a pod may arrive, said from its bytes alone and in plain code: by its interface's own addresses
 * and by one policy that this file knows. It is generous where it does not matter (a piece of a packet whose head is
 * allowed, a quoted flow), and never about whose name a frame speaks in.
 */

import { addressText } from '@tandem/testing/address';
import { describePacket, type ParsedPacket, parsePacket } from '@tandem/testing/packet-parse';

/** Another pod's wire, the host behind netfilter, the wire to the other node, the one to the world. */
export type Place = 'friend' | 'stranger' | 'neighbour' | 'node' | 'remote' | 'world';

export interface Speaker {
  readonly kind: 'ptp' | 'bridge';
  /** Whether the datapath knows the pod: of one that it does not, nothing may arrive. */
  readonly isKnown: boolean;
  readonly mac: string;
  readonly ipv4: string;
  readonly ipv6: string;
}

export interface Stage {
  /** Whom the speaker's policy lets it reach at port 9000 of UDP and TCP. */
  readonly friend: readonly string[];
  /** Addresses of the world that it may reach at port 80. */
  readonly world: readonly string[];
  /** Whether what the node says about such a packet, with the packet in it, goes to the place. */
  readonly isTold: (source: string, destination: string) => boolean;
  /** Link-local addresses of everybody but the speaker. */
  readonly othersLinkLocal: readonly string[];
  /** Keys of `headKey` of what was sent: with one a piece is delivered as part of its packet. */
  readonly heads: ReadonlySet<string>;
}

type End = keyof typeof allowedPort;

const unspecified = '::';
const allowedPort = { friend: 9000, world: 80 } as const;

/** Whether the frame may arrive there. */
export function mayArrive(frame: Uint8Array, speaker: Speaker, stage: Stage, at: Place): boolean {
  const packet = parsePacket(frame);
  const { ethernet, arp, ip } = packet;
  // No program guards the interface of a pod that is not known, so the node answers before it drops.
  if (!speaker.isKnown) return ip !== null && stage.isTold(ip.source, ip.destination);
  if (ethernet === null || ethernet.vlans.length > 0) return false;
  if (speaker.kind === 'bridge' && ethernet.source !== speaker.mac) return false;
  const isOnLink = speaker.kind === 'bridge' && at === 'neighbour';
  if (arp !== null) {
    const claimed = arp.senderAddress === '0.0.0.0' ? arp.targetAddress : arp.senderAddress;
    return isOnLink && arp.senderMac === speaker.mac && claimed === speaker.ipv4;
  }
  if (ip === null) return false;
  if (isNeighbourMessage(packet)) {
    return (isOnLink || at === 'node') && isOwnClaim(packet, speaker, stage);
  }
  if (ip.source !== speaker.ipv4 && ip.source !== speaker.ipv6) return false;
  if (at !== 'friend' && at !== 'world') return false;
  if (!stage[at].includes(ip.destination)) return false;
  const isTail = (ip.fragment?.offset ?? 0) > 0;
  return isTail ? stage.heads.has(pieceKey(packet, at)) : isAllowed(packet, at);
}

/** Key of a piece that may arrive as the first of its packet; null: it is none. */
export function headKey(
  frame: Uint8Array,
  speaker: Speaker,
  stage: Stage,
  end: End,
): string | null {
  const packet = parsePacket(frame);
  const isHead = packet.ip?.fragment?.offset === 0 && packet.ip.fragment.more;
  if (!isHead || !speaker.isKnown) return null;
  return mayArrive(frame, speaker, stage, end) ? pieceKey(packet, end) : null;
}

/** Key that the pieces of one packet share. In IPv6 the protocol is no part of it: the head's counts (RFC 8200, 4.5). */
function pieceKey({ ip }: ParsedPacket, end: End): string {
  const protocol = ip?.version === 4 ? ip.protocol : '';
  return [end, ip?.source, ip?.destination, ip?.fragment?.id, protocol].join(' ');
}

function isAllowed({ ip, udp, tcp, icmp }: ParsedPacket, end: End): boolean {
  if (ip === null) return false;
  const ports = udp ?? tcp;
  if (ports !== null) return ports.destinationPort === allowedPort[end];
  // An error of a party to the flow that it quotes.
  const quoted = icmp?.quoted?.ip ?? null;
  if (quoted === null) return false;
  const parties = [ip.source, ip.destination];
  return parties.includes(quoted.source) && parties.includes(quoted.destination);
}

/** Whether it is a message to neighbours alone that a pod may send: no router's message. */
function isNeighbourMessage({ ip, icmp }: ParsedPacket): boolean {
  if (ip?.version !== 6 || ip.protocol !== 58 || icmp === null || ip.fragment?.more === true)
    return false;
  if (ip.ttl === 255) return [133, 135, 136].includes(icmp.type);
  return ip.ttl === 1 && ip.destination.startsWith('ff') && [131, 132, 143].includes(icmp.type);
}

function isOwnClaim(packet: ParsedPacket, speaker: Speaker, stage: Stage): boolean {
  const { ip, icmp, payload } = packet;
  if (ip === null || icmp === null) return false;
  const isOwn = (address: string): boolean =>
    address === speaker.ipv6 ||
    (isLinkLocal(address) && (speaker.kind === 'ptp' || !stage.othersLinkLocal.includes(address)));
  if (ip.source !== unspecified && !isOwn(ip.source)) return false;
  if (icmp.type !== 135 && icmp.type !== 136) return true;
  const target = addressAt(payload, 0);
  if ((icmp.type === 136 || ip.source === unspecified) && !isOwn(target)) return false;
  if (speaker.kind === 'ptp') return true;
  return claimedMacs(payload.subarray(16)).every((mac) => mac === speaker.mac);
}

/** Link-layer addresses in options; what cannot be read is no claim. */
function claimedMacs(options: Uint8Array): string[] {
  const macs: string[] = [];
  for (let at = 0; at + 8 <= options.length; at += 8 * (options[at + 1] ?? 0)) {
    if (options[at + 1] === 0) return ['unreadable'];
    if (options[at] === 1 || options[at] === 2) {
      macs.push(
        Buffer.from(options.subarray(at + 2, at + 8))
          .toString('hex')
          .replaceAll(/(..)(?=.)/g, '$1:'),
      );
    }
  }
  return macs;
}

function addressAt(bytes: Uint8Array, at: number): string {
  return bytes.length < at + 16 ? 'cut short' : addressText(bytes.subarray(at, at + 16));
}

const isLinkLocal = (address: string): boolean => /^fe[89ab]/.test(address);

export function describeFrame(frame: Uint8Array): string {
  const packet = parsePacket(frame);
  const { ethernet } = packet;
  return `${ethernet?.source} > ${ethernet?.destination} ${describePacket(packet)}: ${Buffer.from(frame.subarray(0, 120)).toString('hex')}`;
}
