// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Puts the gate at the end of the node's CNI chain: in a file of its own, which is a copy of the first network
 * configuration of another program with the gate as last plugin, under the same network name. The other file is never
 * changed, because its writer would write it anew, and pods would start past the gate meanwhile.
 *
 * Order: the program first, the configuration last; at removal the other way round. A configuration that names a
 * program which is missing lets no pod start, and none end.
 */

import {
  chmodSync,
  closeSync,
  fsyncSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { isFields } from '@tandem/core/k8s/shape';
import { err, ok, type Result } from '@tandem/core/result';

export const gateConfigName = '00-tandem.conflist';
export const gatePluginName = 'tandem-gate';
const configPattern = /\.(conflist|conf|json)$/;

export interface GatePlaces {
  /** Where the container runtime reads network configurations, such as /etc/cni/net.d. */
  readonly configDirectory: string;
  /** Where it looks for plugins, such as /opt/cni/bin. */
  readonly pluginDirectory: string;
  /** Of the agent, as the plugin sees it. */
  readonly socketPath: string;
}

/** Puts the program in place. @throws Error of node:fs */
export function installPlugin(program: string, { pluginDirectory }: GatePlaces): void {
  const wanted = readFileSync(program);
  const path = join(pluginDirectory, gatePluginName);
  if (isSame(path, wanted)) return;
  replaceFile(path, wanted, 0o755);
}

/** What became of the configuration. */
export type ConfigOutcome =
  | { readonly kind: 'written' | 'unchanged'; readonly copyOf: string }
  /** No other program has a network configuration: then ours goes too, for it would keep a dead network alive. */
  | { readonly kind: 'removed' | 'absent' };

/** Writes, renews or removes the gate's configuration. The error says which file is at fault; nothing is changed then. */
export function installConfig(places: GatePlaces): Result<ConfigOutcome, string> {
  const { configDirectory } = places;
  const own = join(configDirectory, gateConfigName);
  try {
    const name = readdirSync(configDirectory)
      .filter((each) => configPattern.test(each) && each !== gateConfigName)
      .sort()[0];
    if (name === undefined) return ok({ kind: removeFile(own) ? 'removed' : 'absent' });
    const text = readFileSync(join(configDirectory, name), 'utf8');
    const config = gateConfig(text, places.socketPath);
    if (!config.ok) return err(`${join(configDirectory, name)}: ${config.error}`);
    const wanted = Buffer.from(config.value);
    if (isSame(own, wanted)) return ok({ kind: 'unchanged', copyOf: name });
    replaceFile(own, wanted, 0o644);
    return ok({ kind: 'written', copyOf: name });
  } catch (error) {
    return err(error instanceof Error ? error.message : String(error));
  }
}

/** Takes the gate out of the chain: the configuration first. The program stays for runtimes that still know it. */
export function removeConfig({ configDirectory }: GatePlaces): boolean {
  return removeFile(join(configDirectory, gateConfigName));
}

/** The configuration of another program with the gate at its end. */
export function gateConfig(text: string, socketPath: string): Result<string, string> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    return err('it is no JSON');
  }
  if (!isFields(parsed)) return err('it is no object');
  const { name, cniVersion, plugins, type } = parsed;
  if (typeof name !== 'string' || name === '') return err('it has no name');
  if (plugins === undefined && typeof type !== 'string')
    return err('it has neither plugins nor a type');
  if (plugins !== undefined && (!Array.isArray(plugins) || !plugins.every(isFields))) {
    return err('its plugins are no list of objects');
  }
  const { name: _, cniVersion: __, ...plugin } = parsed;
  const chain: readonly unknown[] = plugins ?? [plugin];
  if (chain.length === 0) return err('it has no plugin');
  if (chain.some((each) => isFields(each) && each['type'] === 'cilium-cni')) {
    return err('it is of Cilium, which enforces policy by itself: Tandem cannot work beside it');
  }
  const others = chain.filter((each) => !isFields(each) || each['type'] !== gatePluginName);
  const gate = { type: gatePluginName, gateSocket: socketPath };
  const list = plugins === undefined ? { name, cniVersion } : parsed;
  return ok(`${JSON.stringify({ ...list, plugins: [...others, gate] }, null, 2)}\n`);
}

function isSame(path: string, wanted: Uint8Array): boolean {
  try {
    return Buffer.compare(readFileSync(path), wanted) === 0;
  } catch {
    return false;
  }
}

/** Whoever reads `path` finds the old file or the new one, whole, after a crash too. */
function replaceFile(path: string, content: Uint8Array, mode: number): void {
  const draft = join(path, '..', `.${gatePluginName}.${process.pid}`);
  const fd = openSync(draft, 'w', mode);
  try {
    writeFileSync(fd, content);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  chmodSync(draft, mode);
  renameSync(draft, path);
}

function removeFile(path: string): boolean {
  try {
    rmSync(path);
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return false;
    throw error;
  }
}
