// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Privileges and memory of a process of Tandem in its pod, as the kernel reports them. */

import { run, tryRun } from '@tandem/testing/process';
import { type Privileges, statusOf } from '../kit/shipped-privileges.ts';
import type { Layout } from './layout.ts';
import { inNode } from './node.ts';

/** Alignment of the arenas of the C library after the first one. */
const arenaBytes = 64 * 1024 * 1024;
/** SECCOMP_MODE_FILTER */
const seccompFilter = '2';
/** Source: include/uapi/linux/auxvec.h */
const auxiliarySecure = 23n;
const kib = 1024;

/**
 * Checks the privileges of a program of a pod, `agent` or `dns-proxy`, on a node. Returns them as text for the report.
 * @throws Error if any of its threads has others
 */
export async function assertPrivileges(
  layout: Layout,
  index: number,
  program: string,
  wanted: Privileges,
): Promise<string> {
  const read = async (...command: readonly string[]): Promise<string> =>
    (await run(...(await inNode(layout, index, command)))).stdout;
  const found = await tryRun(
    ...(await inNode(layout, index, ['pgrep', '--full', `^/bin/node .*/dist/${program}\\.js`])),
  );
  const [pid, ...more] = found.stdout.trim().split('\n');
  if (pid === undefined || pid === '' || more.length > 0) {
    throw new Error(`one process expected, found: ${found.stdout.trim()}`);
  }
  const status = await read('sh', '-c', `cat /proc/${pid}/task/*/status`);
  const expected = { ...statusOf(wanted), Seccomp: seccompFilter };
  for (const [name, value] of Object.entries(expected)) {
    const lines = [...status.matchAll(new RegExp(`^${name}:(.*)$`, 'gm'))];
    const values = new Set(lines.map(([, text = '']) => text.trim()));
    if (values.size === 1 && values.has(value)) continue;
    throw new Error(`${name} is ${[...values].join(', ')} instead of ${value}`);
  }
  const auxiliary = Buffer.from(await read('base64', '-w0', `/proc/${pid}/auxv`), 'base64');
  if (isSecure(auxiliary)) throw new Error('AT_SECURE is set: it ignores its memory settings');
  const arenas = arenasOf(await read('cat', `/proc/${pid}/maps`));
  if (arenas > 0) throw new Error(`${arenas} malloc arenas beside the first`);
  const rss = Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) / kib;
  return `uid ${wanted.uid}, ${wanted.capabilities.join(' and ')}, ${rss.toFixed(0)} MiB`;
}

function isSecure(auxiliary: Uint8Array): boolean {
  const words = new BigUint64Array(new Uint8Array(auxiliary).buffer);
  return words.some((word, at) => at % 2 === 0 && word === auxiliarySecure && words[at + 1] !== 0n);
}

/** Mappings of a whole aligned arena: first what is used, then what is kept for it. */
function arenasOf(maps: string): number {
  const mappings = [...maps.matchAll(/^([0-9a-f]+)-([0-9a-f]+) (\S+)/gm)].map(
    ([, from = '', to = '', flags = '']) => ({
      from: Number(`0x${from}`),
      to: Number(`0x${to}`),
      flags,
    }),
  );
  return mappings.filter(({ from, to, flags }, at) => {
    const next = mappings[at + 1];
    const isArena = from % arenaBytes === 0 && flags.startsWith('rw-p');
    return isArena && next?.from === to && next.flags === '---p' && next.to === from + arenaBytes;
  }).length;
}
