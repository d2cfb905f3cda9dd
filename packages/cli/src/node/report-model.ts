// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The state of a node: its inputs, and the JSON of `tandem status`. */

import type { Result } from '@tandem/core/result';
import type { AdminAnswer, ProcessName } from '../admin/connection.ts';
import type { GroupView, MapFill } from './pins.ts';

export interface ReportInputs {
  readonly group: Result<GroupView, string>;
  /** Answers of the processes, the agent's first. */
  readonly answers: readonly AdminAnswer[];
  /** Counted from the pins when the agent does not answer; else empty. */
  readonly maps: readonly MapFill[];
  readonly isJudging: Result<boolean, string>;
}

export interface MemberReport {
  readonly index: number;
  readonly role: ProcessName;
  readonly state: 'none' | 'live' | 'drain' | 'dead';
  /** LIVE, and its beat is young enough for the socket to choose it. */
  readonly isServing: boolean;
  readonly heartbeatAgeMs: number;
  /** Policy revision that it serves. */
  readonly revision: number;
  readonly pid: number;
}

export interface ProcessReport {
  readonly process: ProcessName;
  readonly socket: string;
  readonly answers: boolean;
  /** Why it does not answer. */
  readonly error: string | null;
  readonly version: string | null;
  readonly uptimeSeconds: number | null;
}

/** As a process of any version reports it. */
export interface ReportedDegradation {
  /** `tandem explain` knows those of this version. */
  readonly code: string;
  readonly message: string;
  readonly fix: string;
}

export interface LearnedReport {
  /** Null: pairs that only policies of other namespaces than the asker's want; they make room first. */
  readonly namespace: string | null;
  readonly used: number;
  /** Number of pairs that other namespaces never take. */
  readonly share: number;
  /** With so many a new one replaces the oldest of the namespace. */
  readonly limit: number;
  /** Made room for the namespace itself, for others; found no room. */
  readonly replaced: number;
  readonly yielded: number;
  readonly refused: number;
}

/** The two lanes of pods' queries over UDP: of pods that ask little (light) and of pods that ask much (heavy). */
export interface LanesReport {
  /** Packets that were given to a member, TCP included, and those of the heavy lane among them. */
  readonly selected: number;
  readonly selectedHeavy: number;
  /** Datagrams and SYNs of pods over their rate, dropped before the lanes. */
  readonly queriesRefused: number;
  readonly connectionsRefused: number;
  /** Receive buffers of each process that answers. */
  readonly buffers: readonly {
    readonly process: ProcessName;
    readonly queuedBytes: number;
    readonly queuedHeavyBytes: number;
    /** Datagrams that found the buffer full, since the process started. */
    readonly dropped: number;
    readonly droppedHeavy: number;
  }[];
  /** Pods ("namespace/pod") that ask much now, most first; null: the agent, which knows them, does not answer. */
  readonly heavyPods: readonly string[] | null;
  /** Number of them, more than `heavyPods` names if there are many. */
  readonly heavyPodsTotal: number | null;
}

/** The JSON of `tandem status`. Fields are only ever added. */
export interface NodeReport {
  readonly health: 'healthy' | 'degraded' | 'down';
  readonly node: string | null;
  /** Process that gave `policy`, `sync` and `maps`; "pins" if none answers. */
  readonly answeredBy: ProcessName | 'pins' | null;
  readonly processes: readonly ProcessReport[];
  readonly members: readonly MemberReport[];
  readonly policy: {
    readonly requiredRevision: number | null;
    readonly appliedRevision: number | null;
    readonly servedRevision: number | null;
    readonly origin: string | null;
    readonly createdAt: string | null;
    readonly endpoints: number | null;
    readonly patterns: number | null;
    readonly policies: number | null;
  };
  readonly sync: {
    readonly isConnected: boolean;
    readonly backlogBytes: number;
    readonly backlogBytesMax: number;
    readonly eventsLost: number;
    readonly mappingsLost: number;
    readonly lastError: string | null;
  } | null;
  /** Reader of the kernel's drop events; null when no process answers. */
  readonly dropReader: {
    readonly process: ProcessName | null;
    readonly ageMs: number;
    readonly seen: number;
    readonly missing: number;
    readonly kernelLost: number;
    readonly kernelLimited: number;
  } | null;
  readonly maps: readonly MapFill[];
  /** Learned addresses by namespace, the fullest first; empty when no process reports it. */
  readonly learned: readonly LearnedReport[];
  /** Lanes of pods' queries; null when no process reports them. */
  readonly lanes: LanesReport | null;
  readonly degraded: readonly ReportedDegradation[];
  /** Properties of the node that are no fault. */
  readonly notes: readonly string[];
  readonly diagnostics: readonly {
    readonly severity: 'warning' | 'error';
    readonly code: string;
    readonly subject: string;
    readonly message: string;
    /** ISO 8601; null: not known. */
    readonly since: string | null;
  }[];
}
