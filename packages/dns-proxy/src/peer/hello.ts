// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The one message of the peer link: the sender's member index, with its listeners attached as descriptors in the order of
 * td_listener_kind. Frozen: members of different versions exchange it. Later versions append.
 *
 *   u32 magic 'TdPL'   u32 version   u32 member   u32 absent      little-endian
 *
 * `absent` has a bit for each kind without a listener: a kernel without IPv6 has two listeners, not four.
 */

import { TD_MEMBERS_MAX, tdListenerKind } from '@tandem/datapath/abi.gen';
import type { UnixMessage } from '@tandem/dns-sockets/unix-seqpacket';

const magic = 0x4c506454;
const version = 1;
const helloBytes = 16;

/** In the place of a descriptor: the member has no listener of this kind. */
export const noListener = -1;

export interface Hello {
  readonly member: number;
  /** Listeners by kind: UDP4, TCP4, UDP6, TCP6; `noListener` where there is none. */
  readonly listeners: readonly number[];
}

/** `fds` go with `bytes` in one message. */
export function encodeHello({ member, listeners }: Hello): UnixMessage {
  const absent = listeners.reduce(
    (bits, fd, kind) => bits | (fd === noListener ? 1 << kind : 0),
    0,
  );
  return {
    bytes: new Uint8Array(Uint32Array.of(magic, version, member, absent).buffer),
    fds: listeners.filter((fd) => fd !== noListener),
  };
}

/** Null for what is no hello of another member; the descriptors are the caller's to close then. */
export function decodeHello({ bytes, fds }: UnixMessage, self: number): Hello | null {
  if (bytes.byteLength < helloBytes) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(0, true) !== magic || view.getUint32(4, true) < version) return null;
  const member = view.getUint32(8, true);
  if (member >= TD_MEMBERS_MAX || member === self) return null;
  const absent = view.getUint32(12, true);
  const kinds = Array.from({ length: tdListenerKind.KINDS }, (_, kind) => kind);
  const present = kinds.filter((kind) => ((absent >>> kind) & 1) === 0);
  if (present.length === 0 || fds.length !== present.length) return null;
  return {
    member,
    listeners: kinds.map((kind) => fds[present.indexOf(kind)] ?? noListener),
  };
}
