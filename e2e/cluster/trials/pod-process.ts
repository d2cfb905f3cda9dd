// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The process of a pod, as the machine sees it: another cluster of the machine may have a pod of the same name. */

import { readdirSync, readFileSync } from 'node:fs';
import type { Layout } from '../layout.ts';

/** Any of the pod that is not the one that keeps its namespaces; null: it has none. */
export function podProcess(layout: Layout, pod: string): number | null {
  for (const entry of readdirSync('/proc')) {
    if (!/^[0-9]+$/.test(entry)) continue;
    const read = (file: string): string => readFileSync(`/proc/${entry}/${file}`, 'utf8');
    try {
      if (!read('environ').split('\0').includes(`HOSTNAME=${pod}`)) continue;
      if (read('cmdline').startsWith('/pause')) continue;
      // Cgroups of a node begin with the name of its cluster.
      if (read('cgroup').includes(`:/${layout.name}-n`)) return Number(entry);
    } catch {
      // It has ended meanwhile.
    }
  }
  return null;
}
