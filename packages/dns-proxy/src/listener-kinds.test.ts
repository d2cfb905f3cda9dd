// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The compiler refuses a descriptor, or a handle of the other loop, in the place of a listener's handle; `./run check` reads the expectations. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ListenerHandle } from './listener-kinds.ts';
import type { SocketHandle } from './udp/upstream-sockets.ts';

test('handles of listeners are told apart from descriptors and from handles of upstream sockets', () => {
  const fd = 7;
  const listener = 7 as ListenerHandle;
  const socket: SocketHandle = 7;
  // @ts-expect-error -- a descriptor is no handle
  const fromFd: ListenerHandle = fd;
  // @ts-expect-error -- a handle of the loop of upstream sockets
  const fromSocket: ListenerHandle = socket;
  // @ts-expect-error -- a handle of the loop of listeners
  const toSocket: SocketHandle = listener;
  assert.deepEqual([fromFd, fromSocket, toSocket], [7, 7, 7]);
});
