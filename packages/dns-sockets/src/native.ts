// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The only file that loads build/dns_sockets.node. The addon checks every argument itself: a wrong
 * one throws, it never crashes. Packages outside use the typed wrappers beside this file.
 */

import { createRequire } from 'node:module';
import { DnsSocketError } from './errors.ts';
import * as layout from './layout.ts';
import * as limits from './limits.ts';

export type UnixEvent = (event: number, first: unknown, second: unknown) => void;

export type NetlinkEvent = (event: number, what: unknown) => void;

export interface NativeAddon {
  readonly layout: Readonly<Record<string, number>>;
  createListener(
    isIpv6: number,
    isTcp: number,
    port: number,
    mark: number,
    markMask: number,
    redirectMark: number,
    ownerUid: number | null,
    receiveBufferBytes: number,
    backlog: number,
    unackedMs: number,
  ): number;
  guardListener(fd: number, markMask: number, redirectMark: number): void;
  enlargeBuffers(fd: number, bytes: number): boolean;
  armFence(path: string): number;
  createUpstreamTcp(isIpv6: 0 | 1, priority: number): number;
  createUpstreamUdp(
    address: Uint8Array,
    port: number,
    mark: number | null,
    source: Uint8Array | null,
    bufferBytes: number,
    priority: number | null,
  ): number;
  closeFd(fd: number): void;
  releaseFd(fd: number): number;
  duplicateFd(fd: number): number;
  tryLockFd(fd: number, shared: 0 | 1): boolean;
  localPort(fd: number): number;
  hasWriter(fd: number): boolean;
  loopCreate(
    payload: Uint8Array,
    control: Uint8Array,
    slots: number,
    onBatch: (handle: number, count: number) => void,
    onSocketError: (handle: number, errno: number) => void,
    isMetadataInBuffer: number,
  ): number;
  loopAdd(loop: number, fd: number, kind: number): number;
  loopRemove(loop: number, handle: number): boolean;
  loopMemory(loop: number, handle: number): { queuedBytes: number; drops: number } | null;
  loopFlush(loop: number): number;
  loopStats(loop: number): Record<string, number>;
  loopClose(loop: number): void;
  unixListen(path: string, mode: number, backlog: number, onEvent: UnixEvent): number;
  unixConnect(path: string, onEvent: UnixEvent): number;
  unixAdopt(fd: number, onEvent: UnixEvent): number;
  unixSend(socket: number, bytes: Uint8Array, fds: readonly number[]): boolean;
  unixClose(socket: number): void;
  netlinkOpen(protocol: number, receiveBufferBytes: number, onEvent: NetlinkEvent): number;
  netlinkJoin(socket: number, group: number): void;
  netlinkSend(socket: number, bytes: Uint8Array): void;
  netlinkReceive(socket: number): boolean;
  netlinkClose(socket: number): void;
  tcpListen(fd: number, onEvent: UnixEvent): number;
  tcpAddresses(fd: number, bytes: Uint8Array): number;
  tcpResetOnClose(fd: number): void;
  peerCredentials(fd: number): [pid: number, uid: number, gid: number];
  tickStart(ms: number, callback: () => void): void;
  tickStop(): void;
  clockInto(out: Float64Array | BigInt64Array | BigUint64Array): void;
  trimHeap(): boolean;
  executeAs(
    uid: number,
    gid: number,
    capabilitiesLow: number,
    capabilitiesHigh: number,
    path: string,
    args: readonly string[],
    env: readonly string[],
  ): never;
}

const expectedLayout: Readonly<Record<string, number>> = {
  headerWords: layout.HEADER_WORDS,
  recordWords: layout.RECORD_WORDS,
  slotsMax: limits.slotsMax,
  txPerSlot: limits.txPerSlot,
  socketsMax: limits.socketsMax,
  loopsMax: limits.loopsMax,
  unixSocketsMax: limits.unixSocketsMax,
  unixMessageBytesMax: limits.unixMessageBytesMax,
  unixFdsMax: limits.unixFdsMax,
  netlinkSocketsMax: limits.netlinkSocketsMax,
  netlinkDatagramBytesMax: limits.netlinkDatagramBytesMax,
  tickMsMax: limits.tickMsMax,
  clockByte: layout.HEADER_CLOCK_BYTE,
  rxOffset: layout.RX_OFFSET,
  rxCapacity: layout.RX_CAPACITY,
  rxLength: layout.RX_LENGTH,
  rxFlags: layout.RX_FLAGS,
  rxPeerPort: layout.RX_PEER_PORT,
  rxDestinationPort: layout.RX_DESTINATION_PORT,
  rxIfindex: layout.RX_IFINDEX,
  rxPeer: layout.RX_PEER,
  rxDestination: layout.RX_DESTINATION,
  metaBytes: layout.META_BYTES,
  metaNameBytes: layout.META_NAME_BYTES,
  txHandle: layout.TX_HANDLE,
  txOffset: layout.TX_OFFSET,
  txLength: layout.TX_LENGTH,
  txPort: layout.TX_PORT,
  txIfindex: layout.TX_IFINDEX,
  txResult: layout.TX_RESULT,
  txDestination: layout.TX_DESTINATION,
  txSource: layout.TX_SOURCE,
};

function load(): NativeAddon {
  // The addon embeds libuv's handles: their layout is stable within a major version only.
  if (!process.versions.uv.startsWith('1.')) {
    throw new DnsSocketError(
      `dns_sockets needs libuv 1.x, but this node (${process.version}) has ${process.versions.uv}`,
      { code: 'TANDEM_SOCKET_LIBUV' },
    );
  }
  const addon = createRequire(import.meta.url)('../build/dns_sockets.node') as NativeAddon;
  for (const [name, value] of Object.entries(expectedLayout)) {
    if (addon.layout[name] !== value) {
      throw new DnsSocketError(
        `build/dns_sockets.node is of another version (${name}: ${addon.layout[name]}, expected ${value}): rebuild it`,
        { code: 'TANDEM_SOCKET_LIBUV' },
      );
    }
  }
  return addon;
}

export const native: NativeAddon = load();
