// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * File descriptors that this package made or received. They are closed by `closeFd`, or at the
 * latest when the thread that made them ends; after `releaseFd` the caller closes them.
 */

import { attempt } from './errors.ts';
import { native } from './native.ts';

/** Port that a socket is bound to, host order. @throws DnsSocketError */
export function localPort(fd: number): number {
  return attempt(() => native.localPort(fd));
}

/** @throws DnsSocketError (EBADF) if `fd` is not ours or already closed; nothing happens then. */
export function closeFd(fd: number): void {
  attempt(() => native.closeFd(fd));
}

/**
 * Gives an fd to an owner that closes it itself:
 * `net.createServer().listen({ fd: releaseFd(createListener(…)) })`.
 * @throws DnsSocketError (EBADF) if it is not ours
 */
export function releaseFd(fd: number): number {
  return attempt(() => native.releaseFd(fd));
}

/** A second fd (close-on-exec) of the same open file; it is ours. @throws DnsSocketError */
export function duplicateFd(fd: number): number {
  return attempt(() => native.duplicateFd(fd));
}
