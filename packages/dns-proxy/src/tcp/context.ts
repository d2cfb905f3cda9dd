// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import type { TcpShared } from './shared.ts';
import type { TcpUpstreams } from './upstreams.ts';

/** Objects that all TCP connections of pods share. */
export interface TcpContext extends TcpShared {
  readonly upstreams: TcpUpstreams;
}
