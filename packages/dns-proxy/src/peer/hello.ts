// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The messages of the peer link. First the hello: the sender's member index, with its listeners attached as descriptors in the order
 * of td_listener_kind. Frozen: members of different versions exchange it. Later versions append.
 *
 *   u32 magic 'TdPL'   u32 version   u32 member   u32 absent      little-endian
 *
 * `absent` has a bit for each kind without a listener: a kernel without IPv6 has two listeners, not four. A sender of version 2
 * takes a second message, of the same layout with the magic 'TdPH': the listeners of the kinds from TD_KINDS on, for pods that
 * ask much. It is sent in answer to such a hello alone, because version 1 takes it for a foreign program's.
 */

import type { GroupIndex } from '@tandem/core/ids';
import { TD_MEMBERS_MAX, tdListenerKind } from '@tandem/datapath/abi.gen';
import type { UnixMessage } from '@tandem/dns-sockets/unix-seqpacket';

const helloMagic = 0x4c506454;
const heavyMagic = 0x48506454;
const version = 2;
const messageBytes = 16;

/** In the place of a descriptor: the member has no listener of this kind. */
export const noListener = -1;

export interface Hello {
  readonly member: GroupIndex;
  /** Listeners by kind: UDP4, TCP4, UDP6, TCP6; `noListener` where there is none. */
  readonly listeners: readonly number[];
  /** The sender takes the message with the other listeners. */
  readonly takesHeavy: boolean;
}

/** `listeners`: by td_listener_kind. `fds` go with `bytes` in one message. */
export function encodeHello(member: GroupIndex, listeners: readonly number[]): UnixMessage {
  return encode(helloMagic, member, listeners.slice(0, tdListenerKind.KINDS));
}

/** Null for what is no hello of another member; the descriptors are the caller's to close then. */
export function decodeHello(message: UnixMessage, self: number): Hello | null {
  const decoded = decode(message, helloMagic, tdListenerKind.KINDS);
  if (decoded === null || decoded.member >= TD_MEMBERS_MAX || decoded.member === self) return null;
  const { member, listeners } = decoded;
  return { member, listeners, takesHeavy: decoded.version >= 2 };
}

/** The listeners for pods that ask much; null: this member has none. */
export function encodeHeavy(member: GroupIndex, listeners: readonly number[]): UnixMessage | null {
  const heavy = listeners.slice(tdListenerKind.KINDS);
  return heavy.some((fd) => fd !== noListener) ? encode(heavyMagic, member, heavy) : null;
}

/** The listeners of the kinds from TD_KINDS on; null as `decodeHello`. */
export function decodeHeavy(message: UnixMessage, member: GroupIndex): readonly number[] | null {
  const kinds = tdListenerKind.KINDS_OF_ALL_LANES - tdListenerKind.KINDS;
  const decoded = decode(message, heavyMagic, kinds);
  return decoded === null || decoded.member !== member ? null : decoded.listeners;
}

function encode(magic: number, member: GroupIndex, listeners: readonly number[]): UnixMessage {
  const absent = listeners.reduce(
    (bits, fd, place) => bits | (fd === noListener ? 1 << place : 0),
    0,
  );
  return {
    bytes: new Uint8Array(Uint32Array.of(magic, version, member, absent).buffer),
    fds: listeners.filter((fd) => fd !== noListener),
  };
}

function decode(
  { bytes, fds }: UnixMessage,
  magic: number,
  count: number,
): { version: number; member: GroupIndex; listeners: readonly number[] } | null {
  if (bytes.byteLength < messageBytes) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const said = view.getUint32(4, true);
  if (view.getUint32(0, true) !== magic || said < 1) return null;
  const absent = view.getUint32(12, true);
  const places = Array.from({ length: count }, (_, place) => place);
  const present = places.filter((place) => ((absent >>> place) & 1) === 0);
  if (present.length === 0 || fds.length !== present.length) return null;
  return {
    version: said,
    member: view.getUint32(8, true),
    listeners: places.map((place) => fds[present.indexOf(place)] ?? noListener),
  };
}
