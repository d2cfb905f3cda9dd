// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A member's sockets in the group: one for each transport and address family that the kernel has. A kernel
 * without IPv6 (`ipv6.disable=1`) leaves out that family: no packet of it exists there.
 */

import { attachReuseport } from '@tandem/bpf-loader-node/link';
import { TD_MEMBERS_MAX } from '@tandem/datapath/abi.gen';
import type { Datapath } from '@tandem/datapath/datapath';
import { DnsSocketError } from '@tandem/dns-sockets/errors';
import { closeFd } from '@tandem/dns-sockets/fd';
import { createListener, enlargeBuffers, guardListener } from '@tandem/dns-sockets/listener';
import { noListener } from './peer/hello.ts';
import type { WorkerOptions } from './worker-messages.ts';

/** By td_listener_kind. */
export const listenerKinds: readonly (readonly ['udp' | 'tcp', 4 | 6])[] = [
  ['udp', 4],
  ['tcp', 4],
  ['udp', 6],
  ['tcp', 6],
];

export type ListenersOptions = Pick<WorkerOptions, 'member' | 'port' | 'ownerUid'> & {
  readonly mark: number;
  readonly datapath: Pick<Datapath, 'map' | 'program'>;
};

/**
 * Opens all of them and puts them into the group's array, or none. Descriptors by td_listener_kind,
 * `noListener` for a family that the kernel does not have.
 * @throws DnsSocketError, BpfError
 */
export function openListeners(options: ListenersOptions): readonly number[] {
  const { datapath, member } = options;
  const array = datapath.map('listeners');
  const selector = datapath.program('select_member');
  const opened: number[] = [];
  try {
    for (const [kind, [protocol, family]] of listenerKinds.entries()) {
      const fd = openListener(protocol, family, options);
      opened.push(fd);
      if (fd === noListener) continue;
      attachReuseport(selector, fd);
      const key = new Uint8Array(Uint32Array.of(kind * TD_MEMBERS_MAX + member).buffer);
      array.update(key, new Uint8Array(BigUint64Array.of(BigInt(fd)).buffer));
    }
    return opened;
  } catch (error) {
    for (const fd of opened) if (fd !== noListener) closeFd(fd);
    throw error;
  }
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
 * stopped for 100 ms. Whoever has the right gives them; without it nothing is changed.
 */
export function giveRoom(listeners: readonly number[]): void {
  for (const [kind, [protocol]] of listenerKinds.entries()) {
    const fd = listeners[kind] ?? noListener;
    if (protocol === 'udp' && fd !== noListener) enlargeBuffers(fd);
  }
}
