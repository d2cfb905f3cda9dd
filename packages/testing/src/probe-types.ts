// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Options and results of the probe's operations. */

export interface SocketOptions {
  readonly source?: string;
  readonly sourcePort?: number;
  /** SO_MARK. */
  readonly mark?: number;
  /** SO_PRIORITY. */
  readonly priority?: number;
  /** Owner of the socket; it is made and bound without capabilities. */
  readonly uid?: number;
  /** SO_BINDTODEVICE. */
  readonly device?: string;
  readonly ttl?: number;
  readonly transparent?: boolean;
  readonly reusePort?: boolean;
  readonly reuseAddress?: boolean;
  /** UDP on IPv4 without checksum. */
  readonly noChecksum?: boolean;
  /** UDP_SEGMENT: each send is cut into datagrams of so many octets. */
  readonly segmentBytes?: number;
  readonly broadcast?: boolean;
  /** Default 2000. */
  readonly timeoutMs?: number;
}

export interface UdpOptions extends SocketOptions {
  readonly to: string;
  readonly port: number;
  readonly data: Uint8Array | string;
  /** Replies to wait for, 0..16. Fewer by the timeout is a success if there is one. Default 1. */
  readonly want?: number;
}

export interface UdpReply {
  readonly from: string;
  readonly fromPort: number;
  readonly afterUs: number;
  readonly data: Uint8Array;
}

export interface UdpResult {
  readonly local: string;
  readonly localPort: number;
  readonly replies: readonly UdpReply[];
}

/** The data that `Probe.keep` was given. */
export const KEPT_DATA = { isKept: true } as const;

export interface ExchangeOptions {
  readonly data?: Uint8Array | string | typeof KEPT_DATA;
  /** Bytes to read at least. */
  readonly want?: number;
  /** Messages with a two-byte length (DNS over TCP) to read. */
  readonly messages?: number;
  /** Read to the end of the stream. */
  readonly untilEnd?: boolean;
  /** Default 2000. */
  readonly timeoutMs?: number;
}

export interface ConnectOptions extends SocketOptions, ExchangeOptions {
  readonly to: string;
  readonly port: number;
}

export interface StreamResult {
  readonly local: string;
  readonly localPort: number;
  readonly connectUs: number;
  readonly totalUs: number;
  /** Segments sent again, the SYN included (TCP_INFO). */
  readonly retransmits: number;
  readonly hasEnded: boolean;
  readonly data: Uint8Array;
}

export interface ListenOptions extends Omit<SocketOptions, 'source' | 'sourcePort'> {
  readonly protocol: 'tcp' | 'udp';
  /** "0.0.0.0" or "::" (IPv6 only) for all. */
  readonly address: string;
  /** Default: chosen by the kernel. */
  readonly port?: number;
  /**
   * "who": PEER PORT LOCAL PORT; "echo"; "sink": reads and says nothing; TCP alone: "hold" accepts and does not
   * read, "stream" sends `data` without end from the first byte that it gets. Default "who".
   */
  readonly mode?: 'who' | 'echo' | 'sink' | 'hold' | 'stream';
  readonly data?: Uint8Array;
  /** SO_ATTACH_REUSEPORT_CBPF: the whole group goes to its member of this number (order of joining). */
  readonly reusePortMember?: number;
}

export interface Served {
  readonly accepted: number;
  readonly refused: number;
  readonly datagrams: number;
  readonly bytes: number;
  readonly open: number;
}

export interface CaptureOptions {
  /** Default eth0. */
  readonly interface?: string;
  /** Only frames with these bytes match; default all. */
  readonly contains?: Uint8Array | string;
  /**
   * The kernel queues only frames whose UDP or TCP payload begins with this (up to 16 bytes), and those of VXLAN: others cost the
   * capture nothing, so that it is not full when these come.
   */
  readonly payload?: string;
}

/** Interface to watch, or IP protocol whose packets the host itself receives, after netfilter. */
export type SightOptions = {
  /** Stands before the number of each packet, which has four octets. */
  readonly pattern: Uint8Array;
} & ({ readonly interface?: string } | { readonly family: 4 | 6; readonly protocol: number });

export interface Captured {
  readonly matched: number;
  readonly total: number;
  /** Frames the kernel could not queue for the capture. */
  readonly dropped: number;
  /** The first 64 that matched. */
  readonly frames: readonly {
    readonly bytes: Uint8Array;
    readonly isOutgoing: boolean;
    /** The transport checksum is left to the device, so the one in the bytes is not final. */
    readonly isChecksumPartial: boolean;
  }[];
}

interface BlastAmount {
  readonly data: Uint8Array | string;
  readonly count: number;
  /** Per second; 0 (default) as fast as possible. */
  readonly rate?: number;
  /** Offset in `data` where each datagram's number goes, 4 bytes big endian. */
  readonly counterAt?: number;
  /** Offsets of 16-bit fields in `data`, at most 4, that are random in each datagram. */
  readonly randomAt?: readonly number[];
  /** Seed of random data, not 0; default 1. */
  readonly seed?: number;
}

export type BlastOptions = BlastAmount &
  (
    | { readonly interface: string }
    | (SocketOptions & { readonly to: string; readonly port: number })
  );

/** Connections that write as fast as they may, drop what they read, and are opened again when they end. */
export interface PourOptions {
  readonly to: string;
  readonly port: number;
  /** Connections go to so many addresses in turn, `to` being the first; default 1. */
  readonly spread?: number;
  readonly connections: number;
  readonly data: Uint8Array;
  /** Copies of the data that a connection writes before it pauses; default: no end. */
  readonly burst?: number;
  /** Between bursts; default: one burst of each connection. */
  readonly pauseMs?: number;
  /** A connection is closed, and opened again, after this long; default: when the other end closes it. */
  readonly lifeMs?: number;
  /** It reads nothing of what comes back. */
  readonly isUnread?: boolean;
  readonly seconds: number;
}

export interface PourResult {
  readonly opened: number;
  readonly failed: number;
  /** By the other end. */
  readonly ended: number;
  /** Copies of the data that the kernel took. */
  readonly messages: number;
  readonly bytesRead: number;
}

export interface BulkOptions {
  readonly server: string;
  /** Default 53. */
  readonly port?: number;
  readonly type?: 'A' | 'AAAA';
  /** Transport of the queries; over TCP each has a connection of its own. Default udp. */
  readonly transport?: 'udp' | 'tcp';
  /** Names are prefix + number + suffix; default "n-" and ".example.test". */
  readonly prefix?: string;
  readonly suffix?: string;
  readonly start?: number;
  readonly count: number;
  /** Names in work at once, at most 512; default 8. */
  readonly concurrency?: number;
  /** Port to connect to; default 80. */
  readonly connectPort?: number;
  /** Times a query is sent at most; default 3. */
  readonly tries?: number;
  /** Timeout of each attempt of a query; default 1000. */
  readonly timeoutMs?: number;
  /** Default 900: less than the kernel's first retransmission of a SYN. */
  readonly connectTimeoutMs?: number;
}

interface Latency {
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

/** Each name is counted once, in `connected` or where it failed. */
export interface BulkResult {
  readonly names: number;
  readonly connected: number;
  /** Connected, but some segment had to be sent again. */
  readonly retransmitted: number;
  readonly connectErrors: number;
  readonly connectTimeouts: number;
  /** Answered with an rcode other than NOERROR. */
  readonly rcodes: number;
  /** Answered without an address of the type. */
  readonly empty: number;
  readonly dnsErrors: number;
  readonly dnsTimeouts: number;
  /** Queries that were sent again; not failures. */
  readonly dnsRetried: number;
  readonly elapsedUs: number;
  readonly dnsUs: Latency | null;
  readonly connectUs: Latency | null;
  /** The first 16 failures: "NUMBER:KIND:RCODE-OR-ERRNO". */
  readonly failures: readonly string[];
}
