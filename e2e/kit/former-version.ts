// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A second build of everything with the ABI version before this one: this version without what its ABI version brought, so that
 * the real migrations of packages/datapath are walked, both ways. A change of TD_ABI_VERSION adds here what undoes the change.
 */

import { join } from 'node:path';
import { buildOtherVersion, type Edits } from './other-version.ts';

/** Undoes version 2: programs that know no TD_VERDICT_DECIDED, and an agent for which ClusterNetworkPolicy is no policy. */
const edits: Edits = {
  'bpf/include/tandem/abi.h': [['#define TD_ABI_VERSION 2u', '#define TD_ABI_VERSION 1u']],
  'bpf/include/tandem/policy.h': [['if (answer.verdict & TD_VERDICT_DECIDED)', 'if (0)']],
  'packages/core/dist/k8s/parse-policy-object.js': [
    ['if (isClusterNetworkPolicy(fields, text, isUntyped))', 'if (false)'],
  ],
  'packages/datapath/dist/migrations.js': [
    ['return migrations.find(', 'if (from !== to) return null;\n    return migrations.find('],
  ],
};

/** Builds it below `directory` and returns its `packages` directory. */
export function buildFormerVersion(directory: string): Promise<string> {
  return buildOtherVersion(join(directory, 'former'), edits);
}
