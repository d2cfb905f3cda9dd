// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Description of a packet for `buildPacket`, with protocol numbers. */

export const ipProtocol = {
  hopByHop: 0,
  icmp: 1,
  ipip: 4,
  tcp: 6,
  udp: 17,
  ipv6: 41,
  routing: 43,
  fragment: 44,
  gre: 47,
  esp: 50,
  ah: 51,
  icmpv6: 58,
  noNext: 59,
  destinationOptions: 60,
} as const;

export const etherType = {
  ipv4: 0x0800,
  arp: 0x0806,
  ipv6: 0x86dd,
  vlan: 0x8100,
  qinq: 0x88a8,
} as const;

/** MAC addresses that a packet has when the test does not care. */
export const defaultMac = {
  source: '02:00:00:00:00:01',
  destination: '02:00:00:00:00:02',
} as const;

export interface VlanTag {
  /** 0..4095; 0 is a priority tag, which skips br_netfilter. */
  readonly id: number;
  readonly priority?: number;
  /** Default 0x8100; 0x88a8 for a service tag. */
  readonly tpid?: number;
}

export interface EthernetSpec {
  readonly source?: string;
  readonly destination?: string;
  /** Outermost first. */
  readonly vlans?: readonly VlanTag[];
  /** Default: by what follows. */
  readonly type?: number;
}

export interface ArpSpec {
  readonly operation: 'request' | 'reply' | number;
  readonly senderMac?: string;
  readonly senderAddress: string;
  readonly targetMac?: string;
  readonly targetAddress: string;
}

export interface FragmentSpec {
  /** In bytes, a multiple of 8. */
  readonly offset: number;
  readonly more: boolean;
  readonly id?: number;
}

/** IPv6 extension headers in the order they are written; `fragment` may also stand among them. */
export type ExtensionSpec =
  | { readonly kind: 'hop-by-hop' | 'destination'; readonly options?: Uint8Array }
  | { readonly kind: 'routing'; readonly type?: number; readonly data?: Uint8Array }
  | ({ readonly kind: 'fragment' } & FragmentSpec);

export interface IpSpec {
  /** The family of both addresses chooses the version. */
  readonly source: string;
  readonly destination: string;
  /** TTL or hop limit; default 64. */
  readonly ttl?: number;
  readonly tos?: number;
  /** Default: by the transport that follows; needed with a bare payload. */
  readonly protocol?: number;
  /** IPv4 only. Padded with End of Option List to 4 bytes. */
  readonly options?: Uint8Array;
  /** IPv4 only: identification, don't-fragment and fragment fields. */
  readonly id?: number;
  readonly dontFragment?: boolean;
  readonly fragment?: FragmentSpec;
  /** IPv6 only. */
  readonly flowLabel?: number;
  readonly extensions?: readonly ExtensionSpec[];
  /** Overrides that make the packet wrong: IPv4 checksum, IHL in words, total (v4) or payload (v6) length. */
  readonly checksum?: number;
  readonly headerWords?: number;
  readonly length?: number;
}

export interface UdpSpec {
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** Default: computed. 0 = not computed by the sender (legal on IPv4 alone). */
  readonly checksum?: number;
  readonly length?: number;
}

export type TcpFlag = 'fin' | 'syn' | 'rst' | 'psh' | 'ack' | 'urg' | 'ece' | 'cwr';
export const tcpFlagBits: Readonly<Record<TcpFlag, number>> = {
  fin: 1,
  syn: 2,
  rst: 4,
  psh: 8,
  ack: 16,
  urg: 32,
  ece: 64,
  cwr: 128,
};

export interface TcpSpec {
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly flags: readonly TcpFlag[];
  readonly sequence?: number;
  readonly acknowledgement?: number;
  readonly window?: number;
  /** Padded with End of Option List to 4 bytes. */
  readonly options?: Uint8Array;
  readonly checksum?: number;
  readonly headerWords?: number;
}

/** ICMP on IPv4, ICMPv6 on IPv6. */
export interface IcmpSpec {
  readonly type: number;
  readonly code?: number;
  /** Bytes 4..7 as one number: identifier and sequence, MTU, pointer, reserved. */
  readonly rest?: number;
  /** The packet that an error quotes, written before `payload`. */
  readonly quoted?: Uint8Array | PacketSpec;
  readonly checksum?: number;
}

export interface PacketSpec {
  /** Default: Ethernet with `defaultMac`. `null`: the bytes start with the IP header. */
  readonly ethernet?: EthernetSpec | null;
  readonly arp?: ArpSpec;
  readonly ip?: IpSpec;
  /** At most one of the three; none = `payload` is the IP payload. */
  readonly udp?: UdpSpec;
  readonly tcp?: TcpSpec;
  readonly icmp?: IcmpSpec;
  readonly payload?: Uint8Array | string;
}
