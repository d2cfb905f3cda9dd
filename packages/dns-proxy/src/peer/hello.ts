// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The one message of the peer link: who speaks, with its four listeners attached as descriptors in the
 * order of td_listener_kind. Frozen: members of different versions exchange it. Later versions append.
 *
 *   u32 magic 'TdPL'   u32 version   u32 member   u32 reserved      little-endian
 */

import { TD_MEMBERS_MAX, tdListenerKind } from '@tandem/datapath/abi.gen';
import type { UnixMessage } from '@tandem/dns-sockets/unix-seqpacket';

const magic = 0x4c506454;
const version = 1;
const helloBytes = 16;

export interface Hello {
  readonly member: number;
  /** Of the kinds UDP4, TCP4, UDP6, TCP6. */
  readonly listeners: readonly number[];
}

export function encodeHello(member: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(magic, version, member, 0).buffer);
}

/** Null for what is no hello of another member; the descriptors are the caller's to close then. */
export function decodeHello({ bytes, fds }: UnixMessage, self: number): Hello | null {
  if (bytes.byteLength < helloBytes || fds.length !== tdListenerKind.KINDS) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(0, true) !== magic || view.getUint32(4, true) < version) return null;
  const member = view.getUint32(8, true);
  if (member >= TD_MEMBERS_MAX || member === self) return null;
  return { member, listeners: fds };
}
