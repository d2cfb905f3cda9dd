// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A member's sockets in the group: one for each transport and address family that the kernel has, and for UDP a second one for
 * pods that ask much (docs/adr/0022-lanes.md). A kernel without IPv6 (`ipv6.disable=1`) leaves out that family: no packet of it
 * exists there.
 */

import { attachReuseport } from '@tandem/bpf-loader-node/link';
import type { BpfMap } from '@tandem/bpf-loader-node/map';
import type { GroupIndex } from '@tandem/core/ids';
import { TD_MEMBERS_MAX, tdListenerKind } from '@tandem/datapath/abi.gen';
import type { Datapath } from '@tandem/datapath/datapath';
import { DnsSocketError } from '@tandem/dns-sockets/errors';
import { closeFd } from '@tandem/dns-sockets/fd';
import { createListener, enlargeBuffers, guardListener } from '@tandem/dns-sockets/listener';
import { isHeavy, listenerKinds } from './listener-kinds.ts';
import { noListener } from './peer/hello.ts';
import type { WorkerOptions } from './worker-messages.ts';

export type ListenersOptions = Pick<WorkerOptions, 'member' | 'port' | 'ownerUid'> & {
  readonly mark: number;
  readonly datapath: Pick<Datapath, 'map' | 'laterMap' | 'program'>;
};

/**
 * Opens all of them and puts them into the group's arrays, or none. Descriptors by td_listener_kind, `noListener` for a family that
 * the kernel does not have, and for the second sockets if the agent is of a version before them.
 * @throws DnsSocketError, BpfError
 */
export function openListeners(options: ListenersOptions): readonly number[] {
  const { datapath, member } = options;
  const heavy = datapath.laterMap('heavy_listeners');
  const selector = datapath.program('select_member');
  const opened: number[] = [];
  try {
    for (const [kind, [protocol, family]] of listenerKinds.entries()) {
      const isAbsent = isHeavy(kind) && heavy === null;
      const fd = isAbsent ? noListener : openListener(protocol, family, options);
      opened.push(fd);
      if (fd === noListener) continue;
      attachReuseport(selector, fd);
      register(isHeavy(kind) ? heavy : datapath.map('listeners'), rowOf(kind), member, fd);
    }
    return opened;
  } catch (error) {
    for (const fd of opened) if (fd !== noListener) closeFd(fd);
    throw error;
  }
}

/**
 * Whether datagrams of pods that ask much go to the member's second sockets. They are read in either case; a member of a version
 * before them cannot read them when this one dies.
 * @throws BpfError
 */
export function useHeavy(
  { datapath, member }: Pick<ListenersOptions, 'datapath' | 'member'>,
  listeners: readonly number[],
  isUsed: boolean,
): void {
  const heavy = datapath.laterMap('heavy_listeners');
  if (heavy === null) return;
  for (const [kind, fd] of listeners.entries()) {
    if (!isHeavy(kind) || fd === noListener) continue;
    const key = keyOf(rowOf(kind), member);
    // The kernel refuses a socket that is in an array (EBUSY).
    if (isUsed === (heavy.lookup(key) !== null)) continue;
    if (isUsed) register(heavy, rowOf(kind), member, fd);
    else heavy.delete(key);
  }
}

/** The row of `kind` in its array, `listeners` or `heavy_listeners`. */
function rowOf(kind: number): number {
  return isHeavy(kind) ? kind - tdListenerKind.KINDS : kind;
}

function keyOf(row: number, member: GroupIndex): Uint8Array {
  return new Uint8Array(Uint32Array.of(row * TD_MEMBERS_MAX + member).buffer);
}

function register(array: BpfMap | null, row: number, member: GroupIndex, fd: number): void {
  array?.update(keyOf(row, member), new Uint8Array(BigUint64Array.of(BigInt(fd)).buffer));
}

function openListener(
  protocol: 'udp' | 'tcp',
  family: 4 | 6,
  { port, mark, ownerUid }: ListenersOptions,
): number {
  try {
    return createListener({
      family,
      protocol,
      port,
      mark: 0,
      markMask: mark,
      redirectMark: mark,
      ownerUid,
    });
  } catch (error) {
    const isAbsent = error instanceof DnsSocketError && error.errnoName === 'EAFNOSUPPORT';
    if (isAbsent && family === 6) return noListener;
    throw error;
  }
}

/** After the agent has loaded programs with another mark: from now on that one passes. */
export function guardListeners(listeners: readonly number[], mark: number): void {
  for (const fd of listeners) {
    if (fd !== noListener) guardListener(fd, { markMask: mark, redirectMark: mark });
  }
}

/**
 * Listeners of another member: it may lack the right to buffers over net.core.rmem_max, which overflow while it is
 * stopped for 100 ms. The member that has the right sets them; without it nothing is changed.
 */
export function giveRoom(listeners: readonly number[]): void {
  for (const [kind, [protocol]] of listenerKinds.entries()) {
    const fd = listeners[kind] ?? noListener;
    if (protocol === 'udp' && fd !== noListener) enlargeBuffers(fd);
  }
}
