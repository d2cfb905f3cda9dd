// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Time of one compilation of a large cluster (scale-fixture), and of the expansion of its policies.
 * `node --conditions=@tandem/source packages/core/src/policy/compile/compile.bench.ts`
 */

import { clusterOf, node } from '../../../test/cluster-fixture.ts';
import { largeCluster } from '../../../test/scale-fixture.ts';
import { policyEntriesMax } from '../../limits.ts';
import { StableIds } from '../model/stable-ids.ts';
import { compile } from './compile.ts';
import { expandPolicy } from './expand.ts';

const rounds = 7;

const parseStart = performance.now();
const cluster = clusterOf(largeCluster());
console.log(`parse ${(performance.now() - parseStart).toFixed(0)} ms`);
let ids = StableIds.empty();
const times: number[] = [];
for (let round = 0; round < rounds; round++) {
  const start = performance.now();
  const compiled = compile(cluster, { node, revision: round + 1 }, ids);
  times.push(performance.now() - start);
  ids = compiled.ids;
  if (round > 0) continue;
  const expandStart = performance.now();
  let entries = 0;
  for (const each of compiled.policies.values())
    entries += expandPolicy(each, compiled.classTable).length;
  const expandMs = (performance.now() - expandStart).toFixed(0);
  const { endpoints, classes, policies: built, dnsServers, members } = compiled;
  console.log(
    `endpoints ${endpoints.length}, classes ${classes.size} (${compiled.classTable.selectorsOf.size} distinct), ` +
      `policies ${built.size}, dns servers ${dnsServers.length}, patterns ${members.patterns.length}, ` +
      `selectors ${members.selectors.length}`,
  );
  console.log(`expand ${expandMs} ms, ${entries} entries of at most ${policyEntriesMax}`);
}
const sorted = times.toSorted((left, right) => left - right);
console.log(
  `compile first ${times[0]?.toFixed(0)} ms, min ${sorted[0]?.toFixed(0)} ms, ` +
    `median ${sorted[rounds >> 1]?.toFixed(0)} ms of ${rounds}`,
);
