// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import type { ClusterState, CompileOptions } from '../model/cluster-state.ts';
import type { Compiled } from '../model/desired.ts';
import type { StableIds } from '../model/stable-ids.ts';
import { PolicyCompiler } from './policy-compiler.ts';

/** One compilation from nothing. `previousIds` is left as it is; `Compiled.ids` is its successor. */
export function compile(
  cluster: ClusterState,
  options: CompileOptions,
  previousIds: StableIds,
): Compiled {
  return new PolicyCompiler().compile(cluster, options, previousIds);
}
