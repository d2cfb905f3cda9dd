// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import type { ClusterState, CompileOptions } from './cluster-state.ts';
import type { Compiled } from './desired.ts';
import { PolicyCompiler } from './policy-compiler.ts';
import type { StableIds } from './stable-ids.ts';

/** One compilation from nothing. `previousIds` is left as it is; `Compiled.ids` is its successor. */
export function compile(
  cluster: ClusterState,
  options: CompileOptions,
  previousIds: StableIds,
): Compiled {
  return new PolicyCompiler().compile(cluster, options, previousIds);
}
