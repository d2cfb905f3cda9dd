// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A fault of a cluster, and its argument while pods ask. */

import type { Excuse } from '../../chaos/oracle.ts';
import type { ClusterStage } from './stage.ts';

/** The subject of a fault: two at once have different ones. */
export type Subject = 'member' | 'node' | 'API server' | 'CoreDNS' | 'cache' | 'kubelet';

export interface ClusterFault {
  readonly name: string;
  readonly subject: Subject;
  /** Action of the fault and failures that it permits, for the report. No fault permits that denied traffic passes. */
  readonly what: string;
  /** Whether it happens to one node, drawn for each run. */
  readonly isOfNode: boolean;
  /** For how long it lasts, seconds, drawn for each run; none: until what was killed is there again. */
  readonly seconds?: readonly [least: number, most: number];
  /** It takes minutes: it comes only to whom asks for it by its name. */
  readonly isOnlyByName?: true;
  /** Queries of a node per second; none: as under the others. */
  readonly rate?: number;
  /** Answers may take longer than a second. */
  readonly mayBeLate?: boolean;
  /** It needs the API server, or a node that runs: no second fault may be there. */
  readonly isAlone?: boolean;
  /** Ends when the fault is over and everything is there again that is not kubelet's to bring back. */
  readonly inject: (context: FaultContext) => Promise<void>;
  /** Looks at the cluster when everything is well and nobody asks any more. @throws Error: it is not as it should be */
  readonly after?: (stage: ClusterStage) => Promise<void>;
}

export interface FaultContext {
  readonly stage: ClusterStage;
  /** Its victim; 1 for a fault of no node. */
  readonly node: number;
  /** Notes a moment, for the timeline. */
  mark(what: string): void;
  /** For as long as the fault lasts. */
  hold(): Promise<void>;
  /**
   * From here to the end of `work` queries of these nodes are excused as `what` says; those too that were sent shortly before,
   * and are not answered yet.
   */
  excuse(what: Excuse['what'], nodes: readonly number[], work: () => Promise<void>): Promise<void>;
  /** The node's pods end with it. */
  losesPower(): void;
}
