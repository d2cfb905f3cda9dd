// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import type { Printer } from '../output/printer.ts';
import type { Kubectl } from './kubectl.ts';

/** Objects that a command of the plugin may use. */
export interface PluginContext {
  readonly kubectl: Kubectl;
  readonly out: Printer;
  readonly notes: Printer;
  readonly wantsJson: boolean;
  /** --node, empty: all. */
  readonly nodes: readonly string[];
  readonly signal: AbortSignal;
  /** Wall clock, ms since 1970. */
  readonly nowMs: () => number;
}
