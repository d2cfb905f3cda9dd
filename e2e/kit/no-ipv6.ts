// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Processes that see a kernel without IPv6 (`ipv6.disable=1`). */

import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const source = fileURLToPath(new URL('./native/no-ipv6.c', import.meta.url));

/** Compiles the library into `directory`, which the proxy's user must reach; the environment that preloads it. */
export function withoutIpv6(directory: string): Readonly<Record<string, string>> {
  const library = join(directory, 'no-ipv6.so');
  execFileSync('gcc', ['-shared', '-fPIC', '-O1', '-o', library, source, '-ldl']);
  return { LD_PRELOAD: library };
}
