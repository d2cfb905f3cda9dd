// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Builds packets for tests of BPF programs and for raw sockets: what a test names is written as named,
 * also when it is wrong (checksums, lengths, header sizes); what it leaves out is filled in correctly.
 * `packet-parse.ts` is the other direction.
 */

import { addressBytes, macBytes } from './address.ts';
import { internetChecksum, pseudoHeaderSum } from './checksum.ts';
import type {
  ArpSpec,
  EthernetSpec,
  ExtensionSpec,
  IcmpSpec,
  IpSpec,
  PacketSpec,
  TcpSpec,
  UdpSpec,
} from './packet-spec.ts';
import { defaultMac, etherType, ipProtocol, tcpFlagBits } from './packet-spec.ts';

/** The bytes of a packet. Throws on a description that makes no sense (mixed families, two transports). */
export function buildPacket(spec: PacketSpec): Uint8Array {
  const network = spec.arp !== undefined ? buildArp(spec.arp) : buildNetwork(spec);
  if (spec.ethernet === null) return network;
  let type: number = etherType.arp;
  if (spec.arp === undefined) {
    type = spec.ip === undefined ? 0xffff : isIpv6(spec.ip) ? etherType.ipv6 : etherType.ipv4;
  }
  return concatBytes([buildEthernet(spec.ethernet ?? {}, type), network]);
}

/**
 * The packet cut into IP fragments whose IP payloads are at most `payloadBytesMax` (rounded down to 8).
 * On IPv6 a fragment header is added after the given extensions.
 */
export function buildFragments(spec: PacketSpec, payloadBytesMax: number): Uint8Array[] {
  const ip = requireIp(spec);
  const transport = buildTransport(spec, ip);
  const step = payloadBytesMax - (payloadBytesMax % 8);
  if (step < 8) throw new RangeError('a fragment carries at least 8 bytes');
  const id = ip.id ?? 0x7a11;
  const fragments: Uint8Array[] = [];
  for (let offset = 0; offset < transport.bytes.length; offset += step) {
    const fragment = { offset, more: offset + step < transport.bytes.length, id };
    const extensions = [...(ip.extensions ?? []), { kind: 'fragment' as const, ...fragment }];
    const cut: IpSpec = isIpv6(ip)
      ? { ...ip, protocol: transport.protocol, extensions }
      : { ...ip, protocol: transport.protocol, fragment };
    fragments.push(
      buildPacket({
        ...(spec.ethernet === undefined ? {} : { ethernet: spec.ethernet }),
        ip: cut,
        payload: transport.bytes.subarray(offset, offset + step),
      }),
    );
  }
  return fragments;
}

/** The packet without its link header; for raw IP sockets and for quoting in ICMP errors. */
export function buildIp(spec: PacketSpec): Uint8Array {
  return buildPacket({ ...spec, ethernet: null });
}

/** `rest` of an echo request or reply. */
export function echoRest(identifier: number, sequence: number): number {
  return ((identifier & 0xffff) * 0x10000 + (sequence & 0xffff)) >>> 0;
}

export function concatBytes(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    bytes.set(part, offset);
    offset += part.length;
  }
  return bytes;
}

function buildEthernet(spec: EthernetSpec, type: number): Uint8Array {
  const vlans = spec.vlans ?? [];
  const bytes = new Uint8Array(14 + 4 * vlans.length);
  const view = viewOf(bytes);
  bytes.set(macBytes(spec.destination ?? defaultMac.destination), 0);
  bytes.set(macBytes(spec.source ?? defaultMac.source), 6);
  let at = 12;
  for (const vlan of vlans) {
    view.setUint16(at, vlan.tpid ?? etherType.vlan);
    view.setUint16(at + 2, ((vlan.priority ?? 0) << 13) | (vlan.id & 0xfff));
    at += 4;
  }
  view.setUint16(at, spec.type ?? type);
  return bytes;
}

function buildArp(spec: ArpSpec): Uint8Array {
  const bytes = new Uint8Array(28);
  const view = viewOf(bytes);
  view.setUint16(0, 1);
  view.setUint16(2, etherType.ipv4);
  bytes[4] = 6;
  bytes[5] = 4;
  const operation =
    spec.operation === 'request' ? 1 : spec.operation === 'reply' ? 2 : spec.operation;
  view.setUint16(6, operation);
  bytes.set(macBytes(spec.senderMac ?? defaultMac.source), 8);
  bytes.set(addressBytes(spec.senderAddress), 14);
  bytes.set(macBytes(spec.targetMac ?? '00:00:00:00:00:00'), 18);
  bytes.set(addressBytes(spec.targetAddress), 24);
  return bytes;
}

function buildNetwork(spec: PacketSpec): Uint8Array {
  if (spec.ip === undefined) return payloadBytes(spec.payload);
  const transport = buildTransport(spec, spec.ip);
  return isIpv6(spec.ip) ? buildIpv6(spec.ip, transport) : buildIpv4(spec.ip, transport);
}

interface Transport {
  readonly protocol: number;
  readonly bytes: Uint8Array;
}

function buildTransport(spec: PacketSpec, ip: IpSpec): Transport {
  const given = [spec.udp, spec.tcp, spec.icmp].filter((part) => part !== undefined);
  if (given.length > 1) throw new TypeError('a packet has one transport');
  const payload = payloadBytes(spec.payload);
  if (spec.udp !== undefined)
    return { protocol: ipProtocol.udp, bytes: buildUdp(spec.udp, ip, payload) };
  if (spec.tcp !== undefined)
    return { protocol: ipProtocol.tcp, bytes: buildTcp(spec.tcp, ip, payload) };
  if (spec.icmp !== undefined) {
    const protocol = isIpv6(ip) ? ipProtocol.icmpv6 : ipProtocol.icmp;
    return { protocol, bytes: buildIcmp(spec.icmp, ip, payload) };
  }
  return { protocol: ip.protocol ?? ipProtocol.noNext, bytes: payload };
}

function buildIpv4(ip: IpSpec, transport: Transport): Uint8Array {
  const options = padTo(ip.options ?? new Uint8Array(0), 4);
  const headerLength = 20 + options.length;
  const header = new Uint8Array(headerLength);
  const view = viewOf(header);
  header[0] = 0x40 | (ip.headerWords ?? headerLength / 4);
  header[1] = ip.tos ?? 0;
  view.setUint16(2, ip.length ?? headerLength + transport.bytes.length);
  view.setUint16(4, ip.fragment?.id ?? ip.id ?? 0x7a11);
  const flags = ((ip.dontFragment ?? false) ? 0x4000 : 0) | (ip.fragment?.more ? 0x2000 : 0);
  view.setUint16(6, flags | fragmentUnits(ip.fragment?.offset ?? 0));
  header[8] = ip.ttl ?? 64;
  header[9] = ip.protocol ?? transport.protocol;
  header.set(addressBytes(ip.source), 12);
  header.set(addressBytes(ip.destination), 16);
  header.set(options, 20);
  view.setUint16(10, ip.checksum ?? internetChecksum(header));
  return concatBytes([header, transport.bytes]);
}

function buildIpv6(ip: IpSpec, transport: Transport): Uint8Array {
  const kinds = (ip.extensions ?? []).map(extensionProtocol);
  const upper = ip.protocol ?? transport.protocol;
  const extensions = (ip.extensions ?? []).map((spec, i) =>
    buildExtension(spec, kinds[i + 1] ?? upper),
  );
  const body = concatBytes([...extensions, transport.bytes]);
  const header = new Uint8Array(40);
  const view = viewOf(header);
  view.setUint32(0, (0x60000000 | ((ip.tos ?? 0) << 20) | ((ip.flowLabel ?? 0) & 0xfffff)) >>> 0);
  view.setUint16(4, ip.length ?? body.length);
  header[6] = kinds[0] ?? upper;
  header[7] = ip.ttl ?? 64;
  header.set(addressBytes(ip.source), 8);
  header.set(addressBytes(ip.destination), 24);
  return concatBytes([header, body]);
}

function extensionProtocol(spec: ExtensionSpec): number {
  const protocols = {
    'hop-by-hop': ipProtocol.hopByHop,
    destination: ipProtocol.destinationOptions,
  } as const;
  if (spec.kind === 'fragment') return ipProtocol.fragment;
  return spec.kind === 'routing' ? ipProtocol.routing : protocols[spec.kind];
}

function buildExtension(spec: ExtensionSpec, next: number): Uint8Array {
  if (spec.kind === 'fragment') {
    const bytes = new Uint8Array(8);
    bytes[0] = next;
    viewOf(bytes).setUint16(2, (fragmentUnits(spec.offset) << 3) | (spec.more ? 1 : 0));
    viewOf(bytes).setUint32(4, spec.id ?? 0x7a11);
    return bytes;
  }
  // Zero bytes are Pad1 options, and a zero routing type with no segments left is inert.
  const data =
    spec.kind === 'routing'
      ? concatBytes([Uint8Array.of(spec.type ?? 0, 0), spec.data ?? new Uint8Array(4)])
      : (spec.options ?? new Uint8Array(6));
  const bytes = padTo(concatBytes([Uint8Array.of(next, 0), data]), 8);
  bytes[1] = bytes.length / 8 - 1;
  return bytes;
}

function buildUdp(spec: UdpSpec, ip: IpSpec, payload: Uint8Array): Uint8Array {
  const bytes = concatBytes([new Uint8Array(8), payload]);
  const view = viewOf(bytes);
  view.setUint16(0, spec.sourcePort);
  view.setUint16(2, spec.destinationPort);
  view.setUint16(4, spec.length ?? bytes.length);
  // A computed zero is sent as all ones: zero means "not computed" (RFC 768).
  view.setUint16(6, spec.checksum ?? (transportChecksum(ip, ipProtocol.udp, bytes) || 0xffff));
  return bytes;
}

function buildTcp(spec: TcpSpec, ip: IpSpec, payload: Uint8Array): Uint8Array {
  const options = padTo(spec.options ?? new Uint8Array(0), 4);
  const bytes = concatBytes([new Uint8Array(20), options, payload]);
  const view = viewOf(bytes);
  view.setUint16(0, spec.sourcePort);
  view.setUint16(2, spec.destinationPort);
  view.setUint32(4, spec.sequence ?? 1000);
  view.setUint32(8, spec.acknowledgement ?? 0);
  bytes[12] = (spec.headerWords ?? 5 + options.length / 4) << 4;
  bytes[13] = spec.flags.reduce((bits, flag) => bits | tcpFlagBits[flag], 0);
  view.setUint16(14, spec.window ?? 65535);
  view.setUint16(16, spec.checksum ?? transportChecksum(ip, ipProtocol.tcp, bytes));
  return bytes;
}

function buildIcmp(spec: IcmpSpec, ip: IpSpec, payload: Uint8Array): Uint8Array {
  const quoted = spec.quoted ?? new Uint8Array(0);
  const body = quoted instanceof Uint8Array ? quoted : buildIp(quoted);
  const bytes = concatBytes([
    Uint8Array.of(spec.type, spec.code ?? 0),
    new Uint8Array(6),
    body,
    payload,
  ]);
  const view = viewOf(bytes);
  view.setUint32(4, spec.rest ?? 0);
  const computed = isIpv6(ip)
    ? transportChecksum(ip, ipProtocol.icmpv6, bytes)
    : internetChecksum(bytes);
  view.setUint16(2, spec.checksum ?? computed);
  return bytes;
}

function transportChecksum(ip: IpSpec, protocol: number, bytes: Uint8Array): number {
  const source = addressBytes(ip.source);
  const destination = addressBytes(ip.destination);
  return internetChecksum(bytes, pseudoHeaderSum(source, destination, protocol, bytes.length));
}

function isIpv6(ip: IpSpec): boolean {
  const isSource6 = ip.source.includes(':');
  if (isSource6 !== ip.destination.includes(':')) throw new TypeError('addresses of two families');
  return isSource6;
}

function requireIp(spec: PacketSpec): IpSpec {
  if (spec.ip === undefined) throw new TypeError('only IP packets have fragments');
  return spec.ip;
}

function fragmentUnits(offset: number): number {
  if (offset % 8 !== 0 || offset > 0xfff8) throw new RangeError(`fragment offset ${offset}`);
  return offset / 8;
}

function payloadBytes(payload: Uint8Array | string | undefined): Uint8Array {
  if (typeof payload === 'string') return new TextEncoder().encode(payload);
  return payload ?? new Uint8Array(0);
}

function padTo(bytes: Uint8Array, multiple: number): Uint8Array {
  const missing = (multiple - (bytes.length % multiple)) % multiple;
  return missing === 0 ? bytes : concatBytes([bytes, new Uint8Array(missing)]);
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
