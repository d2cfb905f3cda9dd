// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Sysctls that kubelet sets on the whole machine, because no namespace has its own: saved before the first cluster, put back after the last. */

import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { bedDirectory } from './layout.ts';

const names = [
  ...['vm/overcommit_memory', 'vm/panic_on_oom', 'kernel/panic', 'kernel/panic_on_oops'],
  ...['kernel/keys/root_maxkeys', 'kernel/keys/root_maxbytes'],
];

const file = join(bedDirectory, 'sysctls.json');
const pathOf = (name: string): string => join('/proc/sys', name);

/** Saves the values, unless an earlier cluster did. */
export function saveSysctls(): void {
  if (existsSync(file)) return;
  const values = names
    .filter((name) => existsSync(pathOf(name)))
    .map((name) => [name, readFileSync(pathOf(name), 'utf8').trim()]);
  writeFileSync(file, JSON.stringify(Object.fromEntries(values)));
}

export function restoreSysctls(): void {
  if (!existsSync(file)) return;
  const values = JSON.parse(readFileSync(file, 'utf8')) as Record<string, string>;
  for (const [name, value] of Object.entries(values)) {
    if (names.includes(name)) writeFileSync(pathOf(name), value);
  }
  rmSync(file);
}
