// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Results of CNI's ADD that the container runtime keeps, by default in /var/lib/cni/results: the sandboxes that no gate
 * reported, because they were made before this agent, or without the gate: it was not yet in the chain when their ADD
 * began, or not any more. An entry may be older than the last boot, so its interface counts only with the MAC address
 * at its other end (`hostInterface`).
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
  /** Files that were skipped, with the reason. */
  readonly problems: readonly string[];
}

export class ResultCache {
  readonly #directory: string;
  readonly #podInterface: string;
  readonly #view: InterfaceView;
  /** By name of a file that was read: what distinguishes the next one of this name. */
  #read: ReadonlyMap<string, string> = new Map();
  #problemOfDirectory = '';

  constructor(directory: string, podInterface: string, view: InterfaceView) {
    this.#directory = directory;
    this.#podInterface = podInterface;
    this.#view = view;
  }

  /** Sandboxes and problems of files that are new, or were written again, in the order of their writing. A directory that is not there has none. */
  async readNew(): Promise<CachedSandboxes> {
    const sandboxes: Sandbox[] = [];
    const problems: string[] = [];
    const names = this.#names(problems);
    const read = new Map<string, string>();
    const fresh: { readonly name: string; readonly writtenMs: number }[] = [];
    for (const name of names.slice(0, cachedResultsMax)) {
      const { version, writtenMs } = versionOf(join(this.#directory, name));
      read.set(name, version);
      if (this.#read.get(name) !== version) fresh.push({ name, writtenMs });
    }
    this.#read = read;
    if (fresh.length > 0) await this.#view.catchUp('links');
    // Names are random. Of two sandboxes of one pod, the file of the former was left by a DEL that never came: the later one counts.
    for (const { name } of fresh.toSorted((left, right) => left.writtenMs - right.writtenMs)) {
      const path = join(this.#directory, name);
      // oxlint-disable-next-line no-await-in-loop -- in order, and no faster at once
      const entry = await readEntry(path, this.#podInterface, this.#view);
      if (typeof entry === 'string') problems.push(`${path}: ${entry}`);
      else if (entry !== null) sandboxes.push(entry);
    }
    return { sandboxes, problems };
  }

  /** A problem of the directory is said once. */
  #names(problems: string[]): readonly string[] {
    const found: string[] = [];
    const names = namesIn(this.#directory, found);
    if (names.length > cachedResultsMax) {
      found.push(`${this.#directory}: only the first ${cachedResultsMax} files by name are read`);
    }
    const problem = found.join('; ');
    if (problem !== '' && problem !== this.#problemOfDirectory) problems.push(problem);
    this.#problemOfDirectory = problem;
    return names;
  }
}

/** The runtime writes a file in place: half of one has another size, or another time, than the whole. */
function versionOf(path: string): { readonly version: string; readonly writtenMs: number } {
  try {
    const { ino, size, mtimeMs } = statSync(path);
    return { version: `${ino} ${size} ${mtimeMs}`, writtenMs: mtimeMs };
  } catch {
    return { version: '', writtenMs: 0 }; // it is gone; what is read says so
  }
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
    if (isAbsent(error)) return null; // of a sandbox that has just ended
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
    if (!isAbsent(error)) problems.push(`${directory}: ${String(error)}`);
    return [];
  }
}

const isAbsent = (error: unknown): boolean =>
  error instanceof Error && 'code' in error && error.code === 'ENOENT';
