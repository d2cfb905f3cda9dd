// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Messages between the main thread and the DNS worker, beside their shared memory. */

import type { GroupIndex, Revision } from '@tandem/core/ids';
import type { MemberIndex } from '@tandem/datapath/member';
import type { TakeoverEvent } from './peer/takeover.ts';
import type { TablesImage } from './policy/tables-image.ts';
import type { DenialOptions } from './query/denial.ts';
import type { MemberSettings } from './settings.ts';

export interface WorkerOptions extends MemberSettings {
  /** The node's directory in a bpffs. */
  readonly pinRoot: string;
  readonly member: MemberIndex;
  /** Unix socket of the link between the DNS workers. The agent listens. */
  readonly peerPath: string;
  readonly denial: DenialOptions;
  readonly graceSeconds: number;
  readonly ttlSecondsMin: number;
  /** Limit of one endpoint. */
  readonly queriesPerSecond: number;
  /** TCP connections of one endpoint that are read at one time. */
  readonly tcpConnectionsPerPod: number;
  readonly counters: Float64Array;
  readonly ring: SharedArrayBuffer;
}

export type ToWorker =
  /** The index is this process's: from now on the pins are the worker's to write, and the port to open. */
  | { readonly kind: 'begin' }
  | { readonly kind: 'policy'; readonly image: TablesImage }
  /** Leave the group: as soon as another member serves, or after `tokenTimeoutMs` without one. */
  | { readonly kind: 'drain'; readonly tokenTimeoutMs: number }
  | { readonly kind: 'stop' };

export type FromWorker =
  /** The listeners are open or are tried again; the member joins the group when it has them and a policy. */
  | { readonly kind: 'ready' }
  /** Why the listeners could not be opened; empty: they are open. */
  | { readonly kind: 'listeners'; readonly problem: string }
  | { readonly kind: 'installed'; readonly revision: Revision }
  | { readonly kind: 'drained' }
  /** Something about the other member that belongs into the log. */
  | { readonly kind: 'peer'; readonly event: TakeoverEvent; readonly member: GroupIndex };
