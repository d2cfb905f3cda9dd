// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A second build of everything with the next ABI version: abi.h changed as its next change might be (values
 * of the agent's maps widened in front, so that every field moves, and a counter more), the BPF programs
 * compiled from it, layouts generated from it, and the migrations that such a change needs. The shared
 * maps stay as they are, which is the rule.
 */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as layout from '../next/current-layout.ts';
import { buildOtherVersion, type Edits, emit } from './other-version.ts';

const migrations = fileURLToPath(new URL('../next/migrations.ts', import.meta.url));
const edits: Edits = {
  'bpf/include/tandem/abi.h': [
    [`#define TD_ABI_VERSION ${layout.version}u`, `#define TD_ABI_VERSION ${layout.version + 1}u`],
    ['struct td_endpoint {\n', 'struct td_endpoint {\n\t__u64 next_stamp;\n'],
    ['struct td_policy {\n', 'struct td_policy {\n\t__u32 next_priority;\n'],
    // Behind the last one, whichever that is.
    [
      '")\n\nenum td_counter {',
      '") \\\n\tX(NEXT, next, "of the next version")\n\nenum td_counter {',
    ],
  ],
};

/** Builds it below `directory` and returns its `packages` directory. */
export async function buildNextVersion(directory: string): Promise<string> {
  const packages = await buildOtherVersion(join(directory, 'next'), edits);
  const target = join(packages, 'datapath/dist');
  emit(migrations, join(target, 'migrations.js'));
  const values = Object.entries(layout).map(([name, value]) => `export const ${name} = ${value};`);
  writeFileSync(join(target, 'current-layout.js'), `${values.join('\n')}\n`);
  return packages;
}
