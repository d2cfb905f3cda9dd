// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Reads a packet back and says what is wrong with it: every checksum is verified and every length
 * compared. `problems` empty means that a receiving stack would accept each header. Never throws on
 * packet content; a short or odd packet ends the walk with a problem.
 */

import { addressText, macText } from './address.ts';
import { onesComplementSum, pseudoHeaderSum } from './checksum.ts';
import type { ArpSpec, TcpFlag } from './packet-spec.ts';
import { etherType, ipProtocol, tcpFlagBits } from './packet-spec.ts';

export interface ParsedEthernet {
  readonly source: string;
  readonly destination: string;
  readonly vlans: readonly {
    readonly tpid: number;
    readonly id: number;
    readonly priority: number;
  }[];
  readonly type: number;
}

export interface ParsedIp {
  readonly version: 4 | 6;
  readonly source: string;
  readonly destination: string;
  readonly ttl: number;
  readonly tos: number;
  /** The protocol of what follows all extension headers. */
  readonly protocol: number;
  readonly id: number | null;
  readonly options: Uint8Array;
  /** Protocol numbers of IPv6 extension headers in their order. */
  readonly extensions: readonly number[];
  readonly fragment: {
    readonly offset: number;
    readonly more: boolean;
    readonly id: number;
  } | null;
}

export interface ParsedUdp {
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly length: number;
  readonly checksum: number;
}

export interface ParsedTcp {
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly sequence: number;
  readonly acknowledgement: number;
  readonly flags: readonly TcpFlag[];
  readonly window: number;
  readonly options: Uint8Array;
}

export interface ParsedIcmp {
  readonly type: number;
  readonly code: number;
  readonly rest: number;
  /** The quoted packet of an error; it is usually cut, so only its headers are looked at. */
  readonly quoted: ParsedPacket | null;
}

export interface ParsedPacket {
  readonly ethernet: ParsedEthernet | null;
  readonly arp: (ArpSpec & { readonly senderMac: string; readonly targetMac: string }) | null;
  readonly ip: ParsedIp | null;
  readonly udp: ParsedUdp | null;
  readonly tcp: ParsedTcp | null;
  readonly icmp: ParsedIcmp | null;
  readonly payload: Uint8Array;
  readonly problems: readonly string[];
}

/** @param link what the bytes start with; IP is told apart by its version nibble. */
export function parsePacket(bytes: Uint8Array, link: 'ethernet' | 'ip' = 'ethernet'): ParsedPacket {
  return new Walk(bytes, false).run(link);
}

/** One line for messages: "10.0.0.1:1024 > 10.0.0.2:53 udp 29". */
export function describePacket(packet: ParsedPacket): string {
  if (packet.arp !== null) return `arp ${packet.arp.senderAddress} > ${packet.arp.targetAddress}`;
  if (packet.ip === null) return `frame of type 0x${packet.ethernet?.type.toString(16) ?? '?'}`;
  const { source, destination, protocol, fragment } = packet.ip;
  const ports = packet.udp ?? packet.tcp;
  const from = ports === null ? source : `${hostText(source)}:${ports.sourcePort}`;
  const to = ports === null ? destination : `${hostText(destination)}:${ports.destinationPort}`;
  let what = `protocol ${protocol}`;
  if (packet.udp !== null) what = 'udp';
  if (packet.tcp !== null) what = `tcp ${packet.tcp.flags.join('+')}`;
  if (packet.icmp !== null) what = `icmp ${packet.icmp.type}/${packet.icmp.code}`;
  const piece = fragment === null ? '' : ` fragment ${fragment.offset}${fragment.more ? '+' : ''}`;
  return `${from} > ${to} ${what} ${packet.payload.length}${piece}`;
}

function hostText(address: string): string {
  return address.includes(':') ? `[${address}]` : address;
}

const extensionProtocols: ReadonlySet<number> = new Set([
  ipProtocol.hopByHop,
  ipProtocol.routing,
  ipProtocol.fragment,
  ipProtocol.destinationOptions,
]);
const icmpErrorTypes: ReadonlySet<number> = new Set([3, 4, 5, 11, 12]);

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** One pass over one packet; `isQuoted` turns off what cannot be checked on a cut packet. */
class Walk {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #isQuoted: boolean;
  readonly #problems: string[] = [];
  readonly #packet: Mutable<ParsedPacket>;
  #at = 0;
  #end: number;

  constructor(bytes: Uint8Array, isQuoted: boolean) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#isQuoted = isQuoted;
    this.#end = bytes.length;
    this.#packet = {
      ethernet: null,
      arp: null,
      ip: null,
      udp: null,
      tcp: null,
      icmp: null,
      payload: bytes,
      problems: this.#problems,
    };
  }

  run(link: 'ethernet' | 'ip'): ParsedPacket {
    let type = 0;
    if (link === 'ethernet') type = this.#ethernet();
    else if (this.#has(1, 'ip')) type = this.#version() === 6 ? etherType.ipv6 : etherType.ipv4;
    if (type === etherType.arp) this.#arp();
    else if (type === etherType.ipv4 && this.#has(20, 'ipv4')) this.#ipv4();
    else if (type === etherType.ipv6 && this.#has(40, 'ipv6')) this.#ipv6();
    this.#packet.payload = this.#bytes.subarray(Math.min(this.#at, this.#end), this.#end);
    return this.#packet;
  }

  #has(length: number, what: string): boolean {
    if (this.#at + length <= this.#end) return true;
    if (!this.#isQuoted)
      this.#problems.push(`${what}: ${this.#end - this.#at} bytes, needs ${length}`);
    return false;
  }

  #version(): number {
    return this.#view.getUint8(this.#at) >> 4;
  }

  #slice(from: number, to: number): Uint8Array {
    return this.#bytes.subarray(this.#at + from, this.#at + to);
  }

  #ethernet(): number {
    if (!this.#has(14, 'ethernet')) return 0;
    const destination = macText(this.#slice(0, 6));
    const source = macText(this.#slice(6, 12));
    const vlans: { tpid: number; id: number; priority: number }[] = [];
    this.#at = 12;
    let type = this.#view.getUint16(this.#at);
    while ((type === etherType.vlan || type === etherType.qinq) && this.#has(6, 'vlan')) {
      const tag = this.#view.getUint16(this.#at + 2);
      vlans.push({ tpid: type, id: tag & 0xfff, priority: tag >> 13 });
      this.#at += 4;
      type = this.#view.getUint16(this.#at);
    }
    this.#at += 2;
    this.#packet.ethernet = { source, destination, vlans, type };
    return type;
  }

  #arp(): void {
    if (!this.#has(28, 'arp')) return;
    const code = this.#view.getUint16(this.#at + 6);
    this.#packet.arp = {
      operation: code === 1 ? 'request' : code === 2 ? 'reply' : code,
      senderMac: macText(this.#slice(8, 14)),
      senderAddress: addressText(this.#slice(14, 18)),
      targetMac: macText(this.#slice(18, 24)),
      targetAddress: addressText(this.#slice(24, 28)),
    };
    this.#at += 28;
  }

  #ipv4(): void {
    const view = this.#view;
    const at = this.#at;
    if (this.#version() !== 4) this.#problems.push(`ipv4: version ${this.#version()}`);
    const headerLength = (view.getUint8(at) & 15) * 4;
    if (headerLength < 20 || !this.#has(headerLength, 'ipv4 options')) {
      this.#problems.push(`ipv4: header of ${headerLength} bytes`);
      return;
    }
    if (onesComplementSum(this.#slice(0, headerLength)) !== 0xffff) {
      this.#problems.push('ipv4: wrong header checksum');
    }
    const id = view.getUint16(at + 4);
    const fields = view.getUint16(at + 6);
    const offset = (fields & 0x1fff) * 8;
    const more = (fields & 0x2000) !== 0;
    const protocol = view.getUint8(at + 9);
    this.#packet.ip = {
      version: 4,
      source: addressText(this.#slice(12, 16)),
      destination: addressText(this.#slice(16, 20)),
      ttl: view.getUint8(at + 8),
      tos: view.getUint8(at + 1),
      protocol,
      id,
      options: this.#slice(20, headerLength),
      extensions: [],
      fragment: offset === 0 && !more ? null : { offset, more, id },
    };
    this.#limit(at + view.getUint16(at + 2), 'ipv4 total length');
    const addresses = this.#slice(12, 20);
    this.#at += headerLength;
    this.#transport(protocol, addresses, offset, more);
  }

  #ipv6(): void {
    const view = this.#view;
    const at = this.#at;
    if (this.#version() !== 6) this.#problems.push(`ipv6: version ${this.#version()}`);
    const addresses = this.#slice(8, 40);
    const ip: Mutable<ParsedIp> & { extensions: number[] } = {
      version: 6,
      source: addressText(this.#slice(8, 24)),
      destination: addressText(this.#slice(24, 40)),
      ttl: view.getUint8(at + 7),
      tos: (view.getUint16(at) >> 4) & 0xff,
      protocol: view.getUint8(at + 6),
      id: null,
      options: new Uint8Array(0),
      extensions: [],
      fragment: null,
    };
    this.#packet.ip = ip;
    this.#limit(at + 40 + view.getUint16(at + 4), 'ipv6 payload length');
    this.#at += 40;
    // A later fragment's bytes after the fragment header are data, whatever its next header says.
    while (extensionProtocols.has(ip.protocol) && (ip.fragment?.offset ?? 0) === 0) {
      if (!this.#has(8, 'ipv6 extension')) return;
      const next = view.getUint8(this.#at);
      const isFragment = ip.protocol === ipProtocol.fragment;
      const length = isFragment ? 8 : (view.getUint8(this.#at + 1) + 1) * 8;
      if (isFragment) {
        const fields = view.getUint16(this.#at + 2);
        const id = view.getUint32(this.#at + 4);
        ip.fragment = { offset: fields & 0xfff8, more: (fields & 1) !== 0, id };
      }
      ip.extensions.push(ip.protocol);
      ip.protocol = next;
      if (!this.#has(length, 'ipv6 extension')) return;
      this.#at += length;
    }
    this.#transport(ip.protocol, addresses, ip.fragment?.offset ?? 0, ip.fragment?.more ?? false);
  }

  /** Bytes after the IP length are link padding and belong to nothing. */
  #limit(end: number, what: string): void {
    if (end > this.#bytes.length) {
      if (!this.#isQuoted) this.#problems.push(`${what}: ends at ${end} of ${this.#bytes.length}`);
    } else this.#end = Math.max(end, this.#at);
  }

  #transport(protocol: number, addresses: Uint8Array, offset: number, more: boolean): void {
    if (offset > 0) return;
    const isWhole = !more && !this.#isQuoted;
    if (protocol === ipProtocol.udp) this.#udp(addresses, isWhole);
    else if (protocol === ipProtocol.tcp) this.#tcp(addresses, isWhole);
    else if (protocol === ipProtocol.icmp || protocol === ipProtocol.icmpv6) {
      this.#icmp(protocol, addresses, isWhole);
    }
  }

  #checkSum(what: string, protocol: number, addresses: Uint8Array): void {
    const half = addresses.length / 2;
    const segment = this.#bytes.subarray(this.#at, this.#end);
    const source = addresses.subarray(0, half);
    const initial = pseudoHeaderSum(source, addresses.subarray(half), protocol, segment.length);
    const isIcmp4 = protocol === ipProtocol.icmp;
    if (onesComplementSum(segment, isIcmp4 ? 0 : initial) !== 0xffff) {
      this.#problems.push(`${what}: wrong checksum`);
    }
  }

  #udp(addresses: Uint8Array, isWhole: boolean): void {
    if (!this.#has(8, 'udp')) return;
    const view = this.#view;
    const at = this.#at;
    const length = view.getUint16(at + 4);
    const checksum = view.getUint16(at + 6);
    if (isWhole && length !== this.#end - at) {
      this.#problems.push(`udp: length ${length}, IP carries ${this.#end - at}`);
    }
    if (isWhole && checksum !== 0) this.#checkSum('udp', ipProtocol.udp, addresses);
    if (checksum === 0 && addresses.length === 32) this.#problems.push('udp: no checksum on IPv6');
    this.#packet.udp = {
      sourcePort: view.getUint16(at),
      destinationPort: view.getUint16(at + 2),
      length,
      checksum,
    };
    this.#at += 8;
  }

  #tcp(addresses: Uint8Array, isWhole: boolean): void {
    const view = this.#view;
    const at = this.#at;
    // An ICMPv4 error need quote only 8 bytes of the segment (RFC 792).
    if (!this.#has(this.#isQuoted ? 8 : 20, 'tcp')) return;
    const hasAll = this.#at + 20 <= this.#end;
    if (isWhole) this.#checkSum('tcp', ipProtocol.tcp, addresses);
    const headerLength = hasAll ? (view.getUint8(at + 12) >> 4) * 4 : 8;
    const bits = hasAll ? view.getUint8(at + 13) : 0;
    this.#packet.tcp = {
      sourcePort: view.getUint16(at),
      destinationPort: view.getUint16(at + 2),
      sequence: view.getUint32(at + 4),
      acknowledgement: hasAll ? view.getUint32(at + 8) : 0,
      flags: (Object.keys(tcpFlagBits) as TcpFlag[]).filter(
        (flag) => (bits & tcpFlagBits[flag]) !== 0,
      ),
      window: hasAll ? view.getUint16(at + 14) : 0,
      options: hasAll ? this.#slice(20, Math.max(20, headerLength)) : new Uint8Array(0),
    };
    if (hasAll && headerLength < 20) this.#problems.push(`tcp: header of ${headerLength} bytes`);
    else if (this.#has(headerLength, 'tcp options')) this.#at += headerLength;
  }

  #icmp(protocol: number, addresses: Uint8Array, isWhole: boolean): void {
    if (!this.#has(8, 'icmp')) return;
    const view = this.#view;
    const at = this.#at;
    if (isWhole) this.#checkSum('icmp', protocol, addresses);
    const type = view.getUint8(at);
    const isError = protocol === ipProtocol.icmp ? icmpErrorTypes.has(type) : type < 128;
    const quotes = isError && !this.#isQuoted && this.#end - at > 8;
    const quoted = quotes
      ? new Walk(this.#bytes.subarray(at + 8, this.#end), true).run('ip')
      : null;
    this.#packet.icmp = { type, code: view.getUint8(at + 1), rest: view.getUint32(at + 4), quoted };
    this.#at += 8;
  }
}
