// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Whether a file is just being written. Source: fcntl(2), F_SETLEASE. */

import { native } from './native.ts';

/**
 * Whether a process has the file of `fd` open for writing; `fd` is open for reading alone. False also where the kernel does not
 * know: on NFS, CIFS and the like, and for a file of another user without CAP_LEASE.
 */
export function hasWriter(fd: number): boolean {
  return native.hasWriter(fd);
}
