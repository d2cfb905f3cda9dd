// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Results of CNI's ADD that the container runtime keeps, by default in /var/lib/cni/results: the sandboxes that were
 * made before this agent, or before there was a gate. An entry may be older than the last boot, so its interface
 * counts only with the MAC address at its other end (`hostInterface`).
 */

import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { isFields } from '@tandem/core/k8s/shape';
import { readCniResult } from './cni-result.ts';
import { hostInterface, type InterfaceView } from './host-interface.ts';
import { cachedResultBytesMax, cachedResultsMax } from './limits.ts';
import type { Sandbox } from './sandboxes.ts';

export interface CachedSandboxes {
  readonly sandboxes: readonly Sandbox[];
  /** What was passed over, by file. */
  readonly problems: readonly string[];
}

/** A directory that is not there has no results. */
export async function readResultCache(
  directory: string,
  podInterface: string,
  view: InterfaceView,
): Promise<CachedSandboxes> {
  const sandboxes: Sandbox[] = [];
  const problems: string[] = [];
  const names = namesIn(directory, problems);
  if (names.length > cachedResultsMax) {
    problems.push(`${directory}: only ${cachedResultsMax} of ${names.length} files are read`);
  }
  await view.refresh('links');
  for (const name of names.slice(0, cachedResultsMax)) {
    const path = join(directory, name);
    // oxlint-disable-next-line no-await-in-loop -- in order, and no faster at once
    const read = await readEntry(path, podInterface, view);
    if (typeof read === 'string') problems.push(`${path}: ${read}`);
    else if (read !== null) sandboxes.push(read);
  }
  return { sandboxes, problems };
}

/** Null: of another interface, or of no pod that is there; a text: why it cannot be read. */
async function readEntry(
  path: string,
  podInterface: string,
  view: InterfaceView,
): Promise<Sandbox | string | null> {
  let entry: unknown;
  try {
    const { size } = statSync(path);
    if (size > cachedResultBytesMax) return `it has more than ${cachedResultBytesMax} octets`;
    entry = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
  if (!isFields(entry)) return 'it is no object';
  const { kind, containerId, ifName, cniArgs, result } = entry;
  if (kind !== 'cniCacheV1' || ifName !== podInterface) return null;
  const args = argumentsOf(cniArgs);
  const namespace = args.get('K8S_POD_NAMESPACE') ?? '';
  const name = args.get('K8S_POD_NAME') ?? '';
  if (namespace === '' || name === '') return null;
  const network = readCniResult(result, podInterface);
  if (!network.ok) return network.error;
  const interfaceName = await hostInterface(network.value, view);
  // Of a sandbox that is gone: a pod that runs has its interface, by the result or by a route.
  if (interfaceName === null && network.value.hostInterfaces.length > 0) return null;
  return {
    podKey: `${namespace}/${name}`,
    uid: args.get('K8S_POD_UID') ?? '',
    containerId: typeof containerId === 'string' ? containerId : '',
    addresses: network.value.addresses,
    interfaceName,
  };
}

function argumentsOf(value: unknown): ReadonlyMap<string, string> {
  const args = new Map<string, string>();
  for (const pair of Array.isArray(value) ? value : []) {
    if (!Array.isArray(pair)) continue;
    const [key, text] = pair as unknown[];
    if (typeof key === 'string' && typeof text === 'string') args.set(key, text);
  }
  return args;
}

function namesIn(directory: string, problems: string[]): readonly string[] {
  try {
    return readdirSync(directory).sort();
  } catch (error) {
    const isAbsent = error instanceof Error && 'code' in error && error.code === 'ENOENT';
    if (!isAbsent) problems.push(`${directory}: ${String(error)}`);
    return [];
  }
}
