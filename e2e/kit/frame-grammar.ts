// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Random frames of a pod that may say anything: Ethernet with VLAN tags, ARP, neighbour discovery, IPv4 with
 * options and fragments, IPv6 with extension headers, UDP, TCP, ICMP with quoted packets, tunnels, other protocols,
 * octets that are flipped, ends that are cut off. Each bears a number behind `token`, by which it is known where it
 * arrives. Repeated by its seed.
 */

import { addressBytes, macBytes } from '@tandem/testing/address';
import { buildPacket, concatBytes } from '@tandem/testing/packet';
import {
  type EthernetSpec,
  type ExtensionSpec,
  etherType,
  type IcmpSpec,
  type IpSpec,
  type PacketSpec,
  type TcpFlag,
  type VlanTag,
} from '@tandem/testing/packet-spec';
import type { Random } from '../chaos/random.ts';

/** Before the number of each frame. */
export const token: Uint8Array = new Uint8Array(Buffer.from('f7544731', 'hex'));

/** Octets of a token and its number. */
const numberEnd = token.length + 4;

/** Everybody on the stage, by whose names frames speak. */
export interface Cast {
  readonly macs: readonly string[];
  readonly ipv4: readonly string[];
  readonly ipv6: readonly string[];
  /** Own and allowed addresses come more often, or hardly a frame would get through the first check. */
  readonly own: { readonly mac: string; readonly ipv4: string; readonly ipv6: string };
  readonly gatewayMac: string;
  readonly allowed4: readonly string[];
  readonly allowed6: readonly string[];
}

const ports = [
  0, 53, 67, 80, 123, 443, 546, 1701, 4789, 6081, 6635, 8472, 8853, 9000, 40_000,
] as const;
const bareProtocols = [
  0, 1, 2, 4, 6, 17, 33, 41, 43, 44, 47, 50, 51, 58, 59, 60, 97, 103, 108, 112, 115, 132, 136, 137,
  255,
];
const otherTypes = [
  0, 0x05, 0x0026, 0x0842, 0x8035, 0x8847, 0x8863, 0x8864, 0x88a8, 0x88cc, 0x88e7, 0x8906, 0x9000,
  0xffff,
];

export class FrameGrammar {
  readonly #random: Random;
  readonly #cast: Cast;

  constructor(random: Random, cast: Cast) {
    this.#random = random;
    this.#cast = cast;
  }

  frame(number: number): Uint8Array {
    const payload = concatBytes([
      token,
      Uint8Array.of(number >>> 24, number >>> 16, number >>> 8, number),
    ]);
    const bytes = this.#weighted<Uint8Array>([
      [8, () => concatBytes([buildPacket(this.#arp()), payload])],
      [12, () => buildPacket(this.#discovery(payload))],
      [
        4,
        () =>
          buildPacket({ ethernet: { ...this.#ethernet(), type: this.#pick(otherTypes) }, payload }),
      ],
      [76, () => buildPacket({ ...this.#packet(payload, 0), ethernet: this.#ethernet() })],
    ]);
    return this.#chance(0.04) ? this.#spoiled(bytes) : bytes;
  }

  #spoiled(bytes: Uint8Array): Uint8Array {
    if (this.#chance(0.3)) return bytes.subarray(0, this.#random.between(14, bytes.length));
    const spoiled = Buffer.from(bytes);
    for (let i = this.#random.between(1, 3); i > 0; i--) {
      const at = this.#random.between(0, Math.min(spoiled.length, 80) - 1);
      // Not the number, or what arrives is no frame that was sent.
      const mark = spoiled.subarray(Math.max(0, at - numberEnd + 1), at + numberEnd).indexOf(token);
      if (mark < 0) spoiled[at] = (spoiled[at] ?? 0) ^ (1 << this.#random.between(0, 7));
    }
    return spoiled;
  }

  #ethernet(): EthernetSpec {
    const { own, gatewayMac, macs } = this.#cast;
    const vlan = (): VlanTag => ({
      id: this.#pick([0, 1, 2, 100, 4095]),
      priority: this.#random.between(0, 7),
      tpid: this.#pick([etherType.vlan, etherType.qinq]),
    });
    const vlans = this.#weighted<VlanTag[]>([
      [92, () => []],
      [6, () => [vlan()]],
      [2, () => [vlan(), vlan()]],
    ]);
    return {
      source: this.#chance(0.85) ? own.mac : this.#pick(macs),
      destination: this.#chance(0.75) ? gatewayMac : this.#pick(macs),
      vlans,
    };
  }

  #arp(): PacketSpec {
    const { own, macs } = this.#cast;
    return {
      ethernet: this.#ethernet(),
      arp: {
        operation: this.#pick([1, 1, 2, 2, 3, 8, 9]),
        senderMac: this.#chance(0.6) ? own.mac : this.#pick(macs),
        senderAddress: this.#chance(0.3) ? own.ipv4 : this.#pick(this.#cast.ipv4),
        targetMac: this.#pick(macs),
        targetAddress: this.#pick(this.#cast.ipv4),
      },
    };
  }

  /** Neighbour and listener discovery, as right or as wrong as it comes. */
  #discovery(payload: Uint8Array): PacketSpec {
    const type = this.#pick([130, 131, 132, 133, 134, 135, 135, 135, 136, 136, 136, 137, 143]);
    const mac = (): string =>
      this.#chance(0.5) ? this.#cast.own.mac : this.#pick(this.#cast.macs);
    const option = (): Uint8Array =>
      concatBytes([
        Uint8Array.of(this.#pick([1, 2, 1, 2, 3, 5, 14, 25]), this.#pick([1, 1, 1, 1, 0, 2])),
        macBytes(mac()),
      ]);
    const target = addressBytes(this.#address(6));
    const marked = concatBytes([Uint8Array.of(253, 2), payload, new Uint8Array(6)]);
    const body =
      type === 133 || type >= 143
        ? []
        : type === 134
          ? [new Uint8Array(8)]
          : type === 137
            ? [target, addressBytes(this.#address(6))]
            : [target];
    const options = Array.from({ length: this.#random.between(0, 3) }, option);
    const ip: IpSpec = {
      source: this.#address(6),
      destination: this.#chance(0.5)
        ? this.#pick(['ff02::1', 'ff02::2', 'ff02::16', 'ff02::1:ff00:11'])
        : this.#address(6),
      ttl: this.#pick([255, 255, 255, 255, 1, 64]),
      extensions: this.#extensions(),
    };
    return {
      ethernet: this.#ethernet(),
      ip,
      icmp: { type, rest: this.#pick([0, 0x20000000, 0x60000000, 0xe0000000]) },
      payload: concatBytes([...body, ...options, marked]),
    };
  }

  #packet(payload: Uint8Array, depth: number): PacketSpec {
    const family = this.#chance(0.5) ? 4 : 6;
    const ip = family === 4 ? this.#ipv4() : this.#ipv6();
    return this.#weighted<PacketSpec>([
      [
        40,
        () => ({
          ip,
          udp: { sourcePort: this.#pick(ports), destinationPort: this.#port() },
          payload: this.#filled(payload),
        }),
      ],
      [
        25,
        () => ({
          ip,
          tcp: {
            sourcePort: this.#pick(ports),
            destinationPort: this.#port(),
            flags: this.#flags(),
            acknowledgement: this.#random.between(0, 9),
          },
          payload,
        }),
      ],
      [18, () => ({ ip, icmp: this.#icmp(payload, depth), payload })],
      [10, () => ({ ip: { ...ip, protocol: this.#pick(bareProtocols) }, payload })],
      [depth < 2 ? 12 : 0, () => this.#tunnel(ip, payload, depth)],
    ]);
  }

  #tunnel(ip: IpSpec, payload: Uint8Array, depth: number): PacketSpec {
    const inner = this.#packet(payload, depth + 1);
    const bare = buildPacket({ ...inner, ethernet: null });
    const is6 = inner.ip?.source.includes(':') === true;
    const framed = buildPacket({ ...inner, ethernet: this.#ethernet() });
    const protocol = is6 ? 41 : 4;
    const type = is6 ? 0xdd86 : 0x0008;
    return this.#weighted<PacketSpec>([
      [4, () => ({ ip: { ...ip, protocol }, payload: bare })],
      [
        2,
        () => ({
          ip: { ...ip, protocol: 47 },
          payload: concatBytes([Uint8Array.of(0, 0, type & 255, type >> 8), bare]),
        }),
      ],
      [
        1,
        () => ({
          ip: { ...ip, protocol: 47 },
          payload: concatBytes([Uint8Array.of(0, 0, 0x65, 0x58), framed]),
        }),
      ],
      [
        1,
        () => ({
          ip: { ...ip, protocol: 115 },
          payload: concatBytes([Uint8Array.of(0, 0, 0, 1), framed]),
        }),
      ],
      [
        1,
        () => ({
          ip: { ...ip, protocol: 137 },
          payload: concatBytes([Uint8Array.of(0, 0, 0x11, 64), bare]),
        }),
      ],
      [
        3,
        () => ({
          ip,
          udp: {
            sourcePort: 40_000,
            destinationPort: this.#pick([4789, 8472, 6081, 1701, 6635, 9000]),
          },
          payload: concatBytes([Uint8Array.of(8, 0, 0, 0, 0, 0, 1, 0), framed]),
        }),
      ],
    ]);
  }

  #icmp(payload: Uint8Array, depth: number): IcmpSpec {
    const type = this.#pick([
      0, 1, 2, 3, 3, 3, 4, 5, 8, 8, 9, 10, 11, 12, 13, 17, 128, 129, 130, 134, 135, 136, 137, 139,
      143, 160,
    ]);
    const quoted =
      depth < 2 && this.#chance(0.6)
        ? { quoted: { ...this.#packet(payload, 2), ethernet: null } }
        : {};
    return { type, code: this.#random.between(0, 7), rest: this.#pick([0, 576, 1500]), ...quoted };
  }

  #ipv4(): IpSpec {
    const options = this.#weighted<Uint8Array | undefined>([
      [90, () => undefined],
      [3, () => Uint8Array.of(148, 4, 0, 0)],
      // loose and strict source route, record route, timestamp
      [
        7,
        () =>
          concatBytes([
            Uint8Array.of(this.#pick([131, 137, 7, 68]), 7, 4),
            addressBytes(this.#address(4)),
            Uint8Array.of(0),
          ]),
      ],
    ]);
    return {
      source: this.#source(4),
      destination: this.#destination(4),
      ttl: this.#pick([64, 64, 64, 1, 0, 2, 255]),
      tos: this.#pick([0, 0, 0x10, 0xb8, 0xff]),
      ...(options === undefined ? {} : { options }),
      ...(this.#chance(0.1)
        ? {
            fragment: {
              offset: 8 * this.#pick([0, 1, 2, 185]),
              more: this.#chance(0.6),
              id: this.#random.between(1, 4),
            },
          }
        : {}),
      ...(this.#chance(0.02) ? { length: this.#random.between(0, 1500) } : {}),
    };
  }

  #ipv6(): IpSpec {
    return {
      source: this.#source(6),
      destination: this.#destination(6),
      ttl: this.#pick([64, 64, 64, 1, 0, 2, 255, 255]),
      tos: this.#pick([0, 0, 0x10, 0xb8]),
      flowLabel: this.#random.between(0, 3),
      extensions: this.#extensions(),
      ...(this.#chance(0.02) ? { length: this.#random.between(0, 1500) } : {}),
    };
  }

  #extensions(): ExtensionSpec[] {
    const extension = (): ExtensionSpec =>
      this.#weighted<ExtensionSpec>([
        [2, () => ({ kind: 'hop-by-hop' })],
        [3, () => ({ kind: 'destination' })],
        [
          2,
          () => ({
            kind: 'routing',
            type: this.#pick([0, 2, 3, 4]),
            data: concatBytes([new Uint8Array(4), addressBytes(this.#address(6))]),
          }),
        ],
        [
          4,
          () => ({
            kind: 'fragment',
            offset: 8 * this.#pick([0, 0, 1, 2, 185]),
            more: this.#chance(0.5),
            id: this.#random.between(1, 4),
          }),
        ],
      ]);
    const count = this.#chance(0.75) ? 0 : this.#random.between(1, 6);
    return Array.from({ length: count }, extension);
  }

  #filled(payload: Uint8Array): Uint8Array {
    const size = this.#weighted<number>([
      [90, () => 0],
      [8, () => this.#random.between(1, 1400)],
      [2, () => 3000],
    ]);
    return concatBytes([payload, new Uint8Array(size)]);
  }

  #flags(): TcpFlag[] {
    const all: readonly TcpFlag[] = ['fin', 'syn', 'rst', 'psh', 'ack', 'urg', 'ece', 'cwr'];
    return this.#chance(0.5) ? ['syn'] : all.filter(() => this.#chance(0.4));
  }

  #port(): number {
    return this.#chance(0.5) ? this.#pick([80, 9000]) : this.#pick(ports);
  }

  #source(family: 4 | 6): string {
    const { own } = this.#cast;
    return this.#chance(0.75) ? (family === 4 ? own.ipv4 : own.ipv6) : this.#address(family);
  }

  #destination(family: 4 | 6): string {
    const { allowed4, allowed6 } = this.#cast;
    return this.#chance(0.3)
      ? this.#pick(family === 4 ? allowed4 : allowed6)
      : this.#address(family);
  }

  #address(family: 4 | 6): string {
    return this.#pick(family === 4 ? this.#cast.ipv4 : this.#cast.ipv6);
  }

  #chance(probability: number): boolean {
    return this.#random.fraction() < probability;
  }

  #pick<T>(items: readonly T[]): T {
    return this.#random.pick(items);
  }

  #weighted<T>(choices: readonly (readonly [number, () => T])[]): T {
    let at = this.#random.fraction() * choices.reduce((sum, [weight]) => sum + weight, 0);
    for (const [weight, make] of choices) {
      at -= weight;
      if (at < 0) return make();
    }
    throw new RangeError('no choice');
  }
}
