// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Puts the gate at the end of the node's CNI chain: in a file of its own, which is a copy of the first network
 * configuration of another program with the gate as last plugin, under the same network name. The other file is never
 * changed, because its writer would replace it, and pods would start past the gate meanwhile.
 *
 * Order: the program first, the configuration last; at removal the other way round. A configuration that names a
 * program which is missing lets no pod start, and none end: where the program cannot be put in place, it is taken away.
 *
 * The runtime takes the first configuration by name. One that comes before ours has to call the gate itself, as that of
 * Multus does when it was made from ours; it is never copied, since it may hand pods on to our copy.
 */

import {
  chmodSync,
  closeSync,
  existsSync,
  fsyncSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { isFields } from '@tandem/core/k8s/shape';
import { err, ok, type Result } from '@tandem/core/result';

export const gateConfigName = '00-tandem.conflist';
export const gatePluginName = 'tandem-gate';
/** Name of the draft, always the same, so that drafts of killed processes do not accumulate. */
export const gateDraftName = '.tandem-gate.new';
const configPattern = /\.(conflist|conf|json)$/;

export interface GatePlaces {
  /** Where the container runtime reads network configurations, such as /etc/cni/net.d. */
  readonly configDirectory: string;
  /** Where it looks for plugins, such as /opt/cni/bin. */
  readonly pluginDirectory: string;
  /** Socket of the agent, as the plugin sees it. */
  readonly socketPath: string;
}

/** Puts the program in place. The error names the file; what was there is there, or no program of ours. */
export function installPlugin(
  program: string,
  { pluginDirectory }: GatePlaces,
): Result<void, string> {
  return attempt(() => {
    const wanted = named(program, () => readFileSync(program));
    const path = join(pluginDirectory, gatePluginName);
    if (!isSame(path, wanted, (mode) => (mode & 0o100) !== 0)) replaceFile(path, wanted, 0o755);
  });
}

/** Whether the runtime finds the program, of whatever version. */
export function hasPlugin({ pluginDirectory }: GatePlaces): boolean {
  return isFile(join(pluginDirectory, gatePluginName));
}

/** Whether the container runtime calls the gate: by our configuration, or by one before it. */
export function isInChain({ configDirectory }: GatePlaces): boolean {
  try {
    const first = configNames(configDirectory)[0] ?? gateConfigName;
    const path = join(configDirectory, first);
    return first < gateConfigName
      ? callsGate(readFileSync(path, 'utf8'))
      : isFile(join(configDirectory, gateConfigName));
  } catch {
    return false;
  }
}

/** Outcome for the configuration. */
export type ConfigOutcome =
  | { readonly kind: 'written' | 'unchanged'; readonly copyOf: string }
  /** No other program has a network configuration: then ours goes too, for it would keep a dead network alive. */
  | { readonly kind: 'removed' | 'absent' };

/**
 * Writes, renews or removes the gate's configuration. The error says which file is at fault: what was written stays then,
 * or was written in vain, because another configuration comes first.
 */
export function installConfig(places: GatePlaces): Result<ConfigOutcome, string> {
  const { configDirectory } = places;
  const own = join(configDirectory, gateConfigName);
  return attempt(() => {
    const names = configNames(configDirectory);
    const name = names.find((each) => each > gateConfigName);
    const outcome = name === undefined ? removeOutcome(own) : writeOutcome(places, name);
    const first = names[0] ?? gateConfigName;
    if (first < gateConfigName && !isInChain(places)) {
      throw new Error(
        `${join(configDirectory, first)} comes before ${gateConfigName}, and the container runtime takes the first by name`,
      );
    }
    return outcome;
  });
}

function removeOutcome(own: string): ConfigOutcome {
  return { kind: removeFile(own) ? 'removed' : 'absent' };
}

function writeOutcome({ configDirectory, socketPath }: GatePlaces, name: string): ConfigOutcome {
  const path = join(configDirectory, name);
  const config = gateConfig(
    named(path, () => readFileSync(path, 'utf8')),
    socketPath,
  );
  if (!config.ok) throw new Error(`${path}: ${config.error}`);
  const own = join(configDirectory, gateConfigName);
  const wanted = Buffer.from(config.value);
  // The copy has the secrets of the other file, which may be for root alone.
  const most = statSync(path).mode & 0o644;
  if (isSame(own, wanted, (mode) => (mode & 0o777 & ~most) === 0)) {
    return { kind: 'unchanged', copyOf: name };
  }
  replaceFile(own, wanted, most);
  return { kind: 'written', copyOf: name };
}

/** Names that a container runtime reads, in its order: no directories, and no pipe without a writer. */
function configNames(directory: string): readonly string[] {
  return readdirSync(directory)
    .filter((name) => configPattern.test(name) && name !== gateConfigName)
    .filter((name) => isFile(join(directory, name)))
    .sort();
}

/** Whether a configuration has our plugin in it, at any depth, or names our file as the one that it hands pods on to. */
function callsGate(text: string): boolean {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    return false;
  }
  const rest: unknown[] = [parsed];
  for (let each = rest.pop(); each !== undefined; each = rest.pop()) {
    if (typeof each === 'string' && basename(each) === gateConfigName) return true;
    if (isFields(each) && each['type'] === gatePluginName) return true;
    if (typeof each === 'object' && each !== null) {
      rest.push(...Object.values(each).filter((value) => value !== undefined && value !== null));
    }
  }
  return false;
}

/**
 * Removes the program, of which no configuration may be left. The error names one that still calls it: without the
 * program the runtime could start no pod by it, and end none.
 */
export function removePlugin({
  configDirectory,
  pluginDirectory,
}: GatePlaces): Result<boolean, string> {
  return attempt(() => {
    const names = existsSync(configDirectory) ? configNames(configDirectory) : [];
    const own = join(configDirectory, gateConfigName);
    const caller = names.find((name) =>
      callsGate(readFileSync(join(configDirectory, name), 'utf8')),
    );
    if (caller !== undefined)
      throw new Error(`${join(configDirectory, caller)} calls ${gatePluginName}`);
    if (isFile(own)) throw new Error(`${own} is still there`);
    rmSync(join(configDirectory, gateDraftName), { force: true });
    rmSync(join(pluginDirectory, gateDraftName), { force: true });
    return removeFile(join(pluginDirectory, gatePluginName));
  });
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

/** A file of content, or a link to one. */
function isFile(path: string): boolean {
  try {
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

function isSame(path: string, wanted: Uint8Array, isRight: (mode: number) => boolean): boolean {
  try {
    return isRight(statSync(path).mode) && Buffer.compare(readFileSync(path), wanted) === 0;
  } catch {
    return false;
  }
}

/** A reader of `path` finds the whole old file or the whole new one, also after a crash. */
function replaceFile(path: string, content: Uint8Array, mode: number): void {
  const draft = join(path, '..', gateDraftName);
  try {
    const fd = openSync(draft, 'w', mode);
    try {
      writeFileSync(fd, content);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    chmodSync(draft, mode);
    renameSync(draft, path);
  } catch (error) {
    rmSync(draft, { force: true });
    throw new Error(`${path}: ${messageOf(error)}`, { cause: error });
  }
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

/** Adds the file to an error of node:fs, which does not always name it. */
function named<T>(path: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw new Error(`${path}: ${messageOf(error)}`, { cause: error });
  }
}

function attempt<T>(work: () => T): Result<T, string> {
  try {
    return ok(work());
  } catch (error) {
    return err(messageOf(error));
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
