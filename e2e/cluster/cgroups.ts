// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A node's cgroup in each hierarchy of the machine: the root of the node's cgroup namespace. */

import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { waitFor } from '@tandem/testing/wait';

const root = '/sys/fs/cgroup';
const removeTimeoutMs = 10_000;
/**
 * A node's share of the CPUs beside other processes of the machine, ten times one process's: in its cgroup are those of a whole machine.
 * By file, of cgroup v1 and v2.
 */
const weights: Readonly<Record<string, string>> = { 'cpu.shares': '10240', 'cpu.weight': '1000' };

export function createCgroups(name: string): void {
  for (const hierarchy of hierarchies()) {
    const cgroup = join(hierarchy, name);
    mkdirSync(cgroup, { recursive: true });
    // a cpuset of cgroup v1 takes no process before it has CPUs
    for (const file of ['cpuset.cpus', 'cpuset.mems']) {
      if (!existsSync(join(cgroup, file)) || existsSync(join(cgroup, 'cgroup.controllers')))
        continue;
      writeFileSync(join(cgroup, file), readFileSync(join(hierarchy, file)));
    }
    for (const [file, weight] of Object.entries(weights)) {
      if (existsSync(join(cgroup, file))) writeFileSync(join(cgroup, file), weight);
    }
  }
}

/** Waits for the processes that were killed to leave. */
export async function removeCgroups(name: string): Promise<void> {
  await waitFor(() => hierarchies().every((hierarchy) => remove(join(hierarchy, name))), {
    what: `cgroups ${name} to be empty`,
    timeoutMs: removeTimeoutMs,
  });
}

/** All of cgroup v1 and the unified one beside them, or the one of cgroup v2. */
function hierarchies(): readonly string[] {
  if (existsSync(join(root, 'cgroup.controllers'))) return [root];
  return readdirSync(root, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => join(root, name))
    .filter((path) => existsSync(join(path, 'cgroup.procs')));
}

function remove(cgroup: string): boolean {
  if (!existsSync(cgroup)) return true;
  for (const entry of readdirSync(cgroup, { withFileTypes: true })) {
    if (entry.isDirectory() && !remove(join(cgroup, entry.name))) return false;
  }
  try {
    rmdirSync(cgroup);
    return true;
  } catch {
    return false;
  }
}
