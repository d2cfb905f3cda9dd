// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Events as an operator sees them: `tandem observe -o json` on the node. */

import { runShort } from '@tandem/testing/process';
import { tandemMain } from './built.ts';
import type { TandemNode } from './tandem-node.ts';

export interface ObservedDns {
  readonly verdict: string;
  readonly pod: string | null;
  readonly name: string | null;
  readonly queryType: string;
  readonly outcome: string;
  readonly rcode: string;
  readonly server: string | null;
  readonly protocol: string;
  readonly latencyUs: number;
}

export interface ObservedDrop {
  readonly reason: string;
  readonly hook: string;
  readonly ifindex: number;
  readonly source: string | null;
}

/** Past events of names that match the pattern, by time. */
export async function observedDns(
  tandem: TandemNode,
  pattern: string,
): Promise<readonly ObservedDns[]> {
  return (await observed(tandem, ['--type', 'dns', '--name', pattern])) as ObservedDns[];
}

/** Past drops, by time. */
export async function observedDrops(tandem: TandemNode): Promise<readonly ObservedDrop[]> {
  return (await observed(tandem, ['--type', 'drop'])) as ObservedDrop[];
}

async function observed(tandem: TandemNode, filters: readonly string[]): Promise<unknown[]> {
  const { pinRoot, runDirectory, stateDirectory } = tandem;
  const text = await runShort(
    ...tandem.node.node.enter(process.execPath, [
      tandemMain,
      ...[`--bpffs-dir=${pinRoot}`, `--run-dir=${runDirectory}`, `--state-dir=${stateDirectory}`],
      ...['observe', '-o', 'json', '--no-follow', '--last', '1000', ...filters],
    ]),
  );
  const lines = text.split('\n').filter((line) => line !== '');
  return lines.map((line): unknown => JSON.parse(line));
}
