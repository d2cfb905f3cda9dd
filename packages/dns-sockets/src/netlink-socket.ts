// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A netlink socket: bytes to the kernel, batches of whole messages from it, with extended
 * acknowledgements and strict checking of requests. What the messages mean is in packages/netlink.
 */

import { getSystemErrorName } from 'node:util';
import { attempt, DnsSocketError } from './errors.ts';
import { netlinkBufferBytes, netlinkReceivesMax } from './limits.ts';
import { native } from './native.ts';

// As DS_NETLINK_* in native/dns_sockets.h.
const eventMessages = 0;
const eventOverrun = 1;

/** linux/netlink.h */
export const netlinkProtocol = { ROUTE: 0, SOCK_DIAG: 4, NETFILTER: 12 } as const;

export interface NetlinkSocketOptions {
  readonly protocol: number;
  /** Multicast groups, by number (RTNLGRP_LINK is 1), not by bit. */
  readonly groups?: readonly number[];
  readonly receiveBufferBytes?: number;
  /** Messages of the kernel, each at a multiple of 4; the memory is the receiver's. */
  readonly onMessages: (bytes: Uint8Array) => void;
  /**
   * ENOBUFS: messages were lost, any number of them. Those before came first. The kernel loses more, without another error, until
   * its queue is empty: called again then, and every second until then. What was read after the last call is complete.
   */
  readonly onOverrun: () => void;
  /** Another error of recvmsg; the socket stays open. */
  readonly onError: (error: DnsSocketError) => void;
}

export class NetlinkSocket implements Disposable {
  readonly #id: number;

  /** In the network namespace of the calling thread. @throws DnsSocketError */
  constructor(options: NetlinkSocketOptions) {
    const { onMessages, onOverrun, onError } = options;
    const onEvent = (event: number, what: unknown): void => {
      if (event === eventMessages) onMessages(new Uint8Array(what as ArrayBuffer));
      else if (event === eventOverrun) onOverrun();
      else onError(errorOf(what as number));
    };
    const bufferBytes = options.receiveBufferBytes ?? netlinkBufferBytes;
    this.#id = attempt(() => native.netlinkOpen(options.protocol, bufferBytes, onEvent));
    try {
      for (const group of options.groups ?? []) this.join(group);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** @throws DnsSocketError: EPERM, EINVAL (no such group) */
  join(group: number): void {
    attempt(() => native.netlinkJoin(this.#id, group));
  }

  /** One datagram of 1..netlinkDatagramBytesMax bytes. @throws DnsSocketError: EBADF (closed), ENOBUFS */
  send(bytes: Uint8Array): void {
    attempt(() => native.netlinkSend(this.#id, bytes));
  }

  /**
   * Messages that the kernel has queued come now, by the callbacks, and not only when the event loop turns: of a multicast group each change
   * whose system call has ended. False: they come faster than they are read, and some are queued still.
   */
  receive(): boolean {
    for (let batch = 0; batch < netlinkReceivesMax; batch++) {
      if (!native.netlinkReceive(this.#id)) return true;
    }
    return false;
  }

  /** No event follows. Idempotent. */
  close(): void {
    native.netlinkClose(this.#id);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function errorOf(errno: number): DnsSocketError {
  const errnoName = getSystemErrorName(-errno);
  return new DnsSocketError(`netlink socket: recvmsg: ${errnoName}`, {
    code: 'TANDEM_SOCKET_SYSTEM',
    errno,
    errnoName,
    syscall: 'recvmsg',
  });
}
