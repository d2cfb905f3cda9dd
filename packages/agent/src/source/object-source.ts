// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Where objects come from, as the rest of the agent sees it. */

import type { DiagnosticCode } from '@tandem/core/codes/diagnostics';
import type { Degradation } from '@tandem/dns-proxy/admin/degradation';
import type { Metrics } from '@tandem/runtime/metrics';

export interface SourceDiagnostic {
  readonly severity: 'error';
  readonly code: DiagnosticCode;
  readonly subject: string;
  readonly message: string;
}

export interface ObjectSource {
  /** Resolves when what can be read now is applied. */
  start(): Promise<void>;
  /** No change is applied any more. */
  stop(): Promise<void>;
  /** Sandboxes of this node changed. */
  sandboxesChanged(): void;
  /** Problems that no compilation reports, because there is none. */
  readonly diagnostics: readonly SourceDiagnostic[];
  readonly degradations: readonly Degradation[];
  /**
   * Lists of objects that exist and were never read, for people; '': none. A pod that starts now could be under a policy among
   * them.
   */
  readonly unread: string;
  /** Notes that are no faults. */
  readonly notes: readonly string[];
  addMetrics(metrics: Metrics): void;
}
