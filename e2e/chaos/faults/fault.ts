// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A fault of the catalogue. */

import type { RunContext } from '../run.ts';
import type { Stage } from '../stage.ts';

export interface Fault {
  readonly name: string;
  /** For `--list`. */
  readonly what: string;
  /** Whom it may hit; the seed chooses. */
  readonly victims: readonly string[];
  /** Answers after more than a second are right: no process ran, or the upstream did not. */
  readonly mayBeLate?: boolean;
  /** Addresses may find no room in the map: what was answered then need not be reachable. */
  readonly mayNotLearn?: boolean;
  /** Before the load starts; what it returns is undone after the run. */
  readonly prepare?: (stage: Stage, victim: string) => Promise<AsyncDisposable>;
  readonly inject: (context: RunContext, victim: string) => Promise<void>;
  /** Check after the run, beside the answers. @throws Error with the condition that does not hold */
  readonly check?: (stage: Stage, victim: string) => Promise<void>;
}
