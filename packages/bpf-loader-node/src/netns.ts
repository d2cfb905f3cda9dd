// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors
//
// Facts of the network namespace that this thread is in.

import { native } from './native.ts';

/** SO_NETNS_COOKIE: names this network namespace until the kernel reboots. */
export function netnsCookie(): bigint {
  return native.netnsCookie();
}

/** Index of an interface of this namespace by its name (at most 15 bytes); 0 when there is none. */
export function ifindex(name: string): number {
  return native.interfaceIndex(name);
}
