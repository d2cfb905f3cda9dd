// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Takes a cluster down, whole or half: processes, namespaces, cgroups, disks, and what it changed on the machine. */

import { cpSync, type Dirent, existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '@tandem/testing/process';
import { removeCgroups } from './cgroups.ts';
import { bedDirectory, cacheDirectory, type Layout, nodeName, nodesMax } from './layout.ts';
import { removeMountPoints } from './node.ts';
import { daemonNames, killDaemon, stopDaemon } from './processes.ts';
import { restoreSysctls } from './sysctls.ts';

/** Returns the directory to which its logs were moved. */
export async function down(layout: Layout): Promise<string> {
  const nodes = Array.from({ length: nodesMax }, (_, index) => index + 1);
  await Promise.all(nodes.map((index) => killDaemon(layout, nodeName(index))));
  await Promise.all(daemonNames(layout).map((name) => stopDaemon(layout, name)));
  for (const index of nodes) await removeCgroups(layout.nodeNetns(index));
  const namespaces = [...nodes.map((index) => layout.nodeNetns(index)), layout.controlPlaneNetns];
  for (const name of namespaces) {
    if (existsSync(join('/run/netns', name))) await run('ip', ['netns', 'del', name]);
  }
  const logs = join(cacheDirectory, 'logs', layout.name);
  if (existsSync(layout.logs)) {
    rmSync(logs, { recursive: true, force: true });
    cpSync(layout.logs, logs, { recursive: true });
  }
  rmSync(layout.directory, { recursive: true, force: true });
  removeWhatClustersShare(layout);
  return logs;
}

function removeWhatClustersShare({ name }: Layout): void {
  if (!existsSync(bedDirectory)) return;
  // another cluster has a directory, or at least the lock of the command that begins it
  const isOther = (entry: Dirent): boolean =>
    entry.isDirectory() || (entry.name.endsWith('.lock') && entry.name !== `${name}.lock`);
  if (readdirSync(bedDirectory, { withFileTypes: true }).some(isOther)) return;
  restoreSysctls();
  removeMountPoints();
  rmSync(bedDirectory, { recursive: true });
}
