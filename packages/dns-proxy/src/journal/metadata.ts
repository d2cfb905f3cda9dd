// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Client and server of a datagram, read from the kernel's record in a slot: `struct sockaddr` and control
 * messages (cmsg(3)) of recvmsg(2), in the machine's byte order, which is little-endian. Only a query that its process had
 * received but not handled when it died needs this; the memory may hold anything.
 */

import { tdJournalSlot } from '@tandem/datapath/abi.gen';

const inet = 2; // AF_INET
const inet6 = 10; // AF_INET6
const solIp = 0;
const ipOrigdstaddr = 20;
const solIpv6 = 41;
const ipv6Origdstaddr = 74;
const headerBytes = 16; // struct cmsghdr
const addressBytes = { [inet]: 8, [inet6]: 24 } as const; // of a sockaddr, up to its address
const controlBytes = tdJournalSlot.message - tdJournalSlot.control;

/** Whether a datagram was received into the slot whose bytes begin at `from`. */
export function isReceived(memory: Uint8Array, from: number): boolean {
  const family = familyAt(memory, from + tdJournalSlot.name);
  return family === inet || family === inet6;
}

/**
 * Writes client, server (as the pod asked it) and client port of the slot at `from` in `memory` into the
 * header of the slot at `to` in `target`. False if the kernel's record is not whole.
 */
export function readMetadata(
  memory: Uint8Array,
  from: number,
  target: Uint8Array,
  to: number,
): boolean {
  const name = from + tdJournalSlot.name;
  if (!copyAddress(memory, name, target, to + tdJournalSlot.client)) return false;
  const port = (memory[name + 2]! << 8) | memory[name + 3]!;
  target[to + tdJournalSlot.client_port] = port & 0xff;
  target[to + tdJournalSlot.client_port + 1] = port >> 8;
  target[to + tdJournalSlot.client_port + 2] = 0;
  target[to + tdJournalSlot.client_port + 3] = 0;
  const control = from + tdJournalSlot.control;
  const view = new DataView(memory.buffer, memory.byteOffset + control, controlBytes);
  for (let at = 0; at + headerBytes <= controlBytes; ) {
    const length = view.getUint32(at, true);
    if (length < headerBytes || length > controlBytes - at) return false;
    const level = view.getUint32(at + 8, true);
    const type = view.getUint32(at + 12, true);
    const isDestination =
      (level === solIp && type === ipOrigdstaddr) ||
      (level === solIpv6 && type === ipv6Origdstaddr);
    if (isDestination) {
      return copyAddress(memory, control + at + headerBytes, target, to + tdJournalSlot.server);
    }
    at += (length + 7) & ~7;
  }
  return false;
}

function familyAt(memory: Uint8Array, sockaddr: number): number {
  return memory[sockaddr]! | (memory[sockaddr + 1]! << 8);
}

/** The address of a sockaddr as 16 bytes, IPv4 as ::ffff:a.b.c.d. */
function copyAddress(
  memory: Uint8Array,
  sockaddr: number,
  target: Uint8Array,
  to: number,
): boolean {
  const family = familyAt(memory, sockaddr);
  if (family === inet) {
    target.fill(0, to, to + 10);
    target.fill(0xff, to + 10, to + 12);
    target.set(memory.subarray(sockaddr + 4, sockaddr + addressBytes[inet]), to + 12);
    return true;
  }
  if (family !== inet6) return false;
  target.set(memory.subarray(sockaddr + 8, sockaddr + addressBytes[inet6]), to);
  return true;
}
