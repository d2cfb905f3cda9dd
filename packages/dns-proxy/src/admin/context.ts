// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Inputs of the admin service and the metrics of a process. */

import type { DiagnosticCode } from '@tandem/core/codes/diagnostics';
import type { Revision } from '@tandem/core/ids';
import type { MemberIndex, MemberName } from '@tandem/datapath/member';
import type { Clock } from '@tandem/runtime/system-clock';
import type { DropReader } from '../drops/reader.ts';
import type { AddressesInUse } from '../store/addresses-in-use.ts';
import type { NodeStore } from '../store/node-store.ts';
import type { Exchange } from '../sync/exchange.ts';
import type { Degradation } from './degradation.ts';
import type { KernelView } from './kernel-view.ts';
import type { PolicyOrigin } from './process-degradations.ts';

export interface PolicyFacts {
  readonly revision: Revision;
  readonly origin: PolicyOrigin;
  readonly nodeName: string;
  readonly createdUnixMs: number;
  readonly endpoints: number;
  readonly patterns: number;
  readonly policies: number;
}

/** A rule by which packets are dropped. */
export interface RuleName {
  /** `Kind/namespace/name: spec.egress[0]`. */
  readonly text: string;
  /** Tier of a ClusterNetworkPolicy: `Admin tier, priority 10`. */
  readonly tier?: string;
}

/** As core's, without its package. */
export interface InputDiagnostic {
  readonly severity: 'error' | 'warning';
  readonly code: DiagnosticCode;
  readonly subject: string;
  readonly message: string;
  /** Unix time, ms, of when it came up; absent: not known. */
  readonly sinceMs?: number;
}

export interface AdminContext {
  readonly role: MemberName;
  readonly member: MemberIndex;
  readonly clock: Clock;
  /** Monotonic ms of the start. */
  readonly startedMs: number;
  readonly store: NodeStore;
  readonly exchange: Exchange;
  /** Last failure of the connection to the other process, empty if none. */
  readonly exchangeError: () => string;
  readonly policy: () => PolicyFacts;
  readonly kernel: KernelView;
  readonly inUse: Pick<AddressesInUse, 'until'>;
  /** Counters of the DNS worker (counters.ts). */
  readonly dnsCounters: Float64Array;
  /** Null: the ring could not be opened yet. */
  readonly drops: () => DropReader | null;
  readonly diagnostics: () => readonly InputDiagnostic[];
  /** Degradations that only this process can detect. */
  readonly ownDegradations: () => readonly Degradation[];
  /** Notes for an operator that are no faults. */
  readonly ownNotes: () => readonly string[];
  /** Names of interfaces by index, as far as they are known. */
  readonly interfaceNames: () => ReadonlyMap<number, string>;
  /** Undefined: not known. */
  readonly ruleOf: (ruleId: number) => RuleName | undefined;
  readonly metricsText: () => Promise<string>;
}
