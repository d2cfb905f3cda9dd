// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

// Configuration from a table of options: flags before environment (TANDEM_UPPER_SNAKE) before the YAML
// file before defaults. Everything wrong is reported at once, each with where it stood; an unknown key or
// flag is an error that names the nearest valid one. Nothing is read but what the caller passes in.
//
//   interface ProxyConfig { readonly listenPort: number }
//   const options: OptionTable<ProxyConfig> = { listenPort: intOption({ ... }) };
//   const loaded = loadConfig({ program: 'tandem-dns-proxy', description: '...', options }, systemSources());

import { readFileSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import type * as yaml from 'yaml';
import type { Option } from './config-option.ts';
import { type AnyOptions, type Flags, flagName, type OptionTable, readFlags } from './flags.ts';
import { nearestName } from './nearest-name.ts';

/** Largest configuration file, bytes. */
export const configFileBytesMax: number = 1024 * 1024;

export interface ConfigSpec<Config> {
  /** Name of the program, for help. */
  readonly program: string;
  /** Purpose of the program, for help: one or two sentences. */
  readonly description: string;
  readonly options: OptionTable<Config>;
  /** Relations between options. Returns the faults; called only if each option by itself is right. */
  readonly check?: (config: Config) => readonly string[];
}

/** Where configuration comes from. */
export interface ConfigSources {
  /** Arguments after the program. */
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Reads a configuration file. Throws what the file system throws. */
  readFile(path: string): string;
}

/** Where an option's value was taken from. */
export type ConfigOrigin = 'flag' | 'environment' | 'file' | 'default';

export type ResolvedConfig<Config> =
  | {
      readonly kind: 'config';
      readonly config: Config;
      readonly origins: Readonly<Record<keyof Config, ConfigOrigin>>;
      /** Variables TANDEM_... that are not used: maybe misspelt, maybe Kubernetes' service links. */
      readonly warnings: readonly string[];
    }
  | { readonly kind: 'error'; readonly errors: readonly string[] };

export type ConfigResult<Config> =
  | ResolvedConfig<Config>
  | { readonly kind: 'help' }
  | { readonly kind: 'version' };

const generalFlags: readonly string[] = ['config', 'help', 'version'];

/** "fqdnGraceSeconds" in the environment: "TANDEM_FQDN_GRACE_SECONDS". */
export function variableName(option: string): string {
  return `TANDEM_${flagName(option).replaceAll('-', '_').toUpperCase()}`;
}

/** The process's own arguments, environment and file system. */
export function systemSources(): ConfigSources {
  return {
    argv: process.argv.slice(2),
    env: process.env,
    readFile: (path) => {
      const status = statSync(path);
      // A pipe without a writer, or a terminal, would keep the process from starting or ending for ever.
      if (!status.isFile()) throw new TypeError('not a regular file');
      if (status.size > configFileBytesMax) {
        throw new RangeError(`larger than ${configFileBytesMax} bytes`);
      }
      return readFileSync(path, 'utf8');
    },
  };
}

/** The map of a YAML file, or an error that names the line. */
function readYaml(
  path: string,
  sources: Pick<ConfigSources, 'readFile'>,
  errors: string[],
): Map<string, unknown> {
  const values = new Map<string, unknown>();
  let text: string;
  try {
    text = sources.readFile(path);
  } catch (error) {
    errors.push(`cannot read ${path}: ${error instanceof Error ? error.message : String(error)}`);
    return values;
  }
  // Loaded only where there is a file: the parser is a megabyte of the proxy's heap.
  const { parseDocument } = createRequire(import.meta.url)('yaml') as typeof yaml;
  // Aliases are of no use here, and a few of them can stand for gigabytes.
  const document = parseDocument(text, { uniqueKeys: true });
  for (const problem of document.errors) errors.push(`${path}: ${problem.message}`);
  if (document.errors.length > 0) return values;
  let content: unknown;
  try {
    content = document.toJS({ maxAliasCount: 0 });
  } catch (error) {
    errors.push(`${path}: ${error instanceof Error ? error.message : String(error)}`);
    return values;
  }
  if (content === null || content === undefined) return values;
  if (typeof content !== 'object' || Array.isArray(content)) {
    errors.push(`${path}: must be a map of options`);
    return values;
  }
  return new Map(Object.entries(content));
}

function unknownKeys(path: string, file: Map<string, unknown>, options: AnyOptions): string[] {
  const names = Object.keys(options).filter((name) => options[name]?.isFlagOnly !== true);
  return [...file.keys()]
    .filter((key) => !Object.hasOwn(options, key) || options[key]?.isFlagOnly === true)
    .map((key) => `${path}: unknown key "${key}"; the nearest is "${nearestName(key, names)}"`);
}

function unknownVariables(env: ConfigSources['env'], options: AnyOptions): string[] {
  const settable = Object.keys(options).filter((name) => options[name]?.isFlagOnly !== true);
  const known = new Set([...settable.map(variableName), 'TANDEM_CONFIG']);
  return Object.keys(env)
    .filter((name) => name.startsWith('TANDEM_') && !known.has(name))
    .map((name) => `${name} is no option; the nearest is ${nearestName(name, [...known])}`);
}

/**
 * Whether kubelet has set the value for a Service of the pod's namespace: TANDEM_PORT for a Service named "tandem". It is not
 * what anybody configured.
 */
function isServiceLink(value: string): boolean {
  return /^(?:tcp|udp|sctp):\/\/\S+:\d+$/.test(value);
}

function serviceLinks(env: ConfigSources['env'], options: AnyOptions): string[] {
  return Object.keys(options)
    .map(variableName)
    .filter((name) => isServiceLink(env[name] ?? ''))
    .map((name) => `${name} is Kubernetes' link to a Service (${env[name]}) and is not used`);
}

/** Reads the configuration. Fails as a value, with every error found. */
export function loadConfig<Config extends object>(
  spec: ConfigSpec<Config>,
  sources: ConfigSources,
): ConfigResult<Config> {
  const options = spec.options as unknown as AnyOptions;
  const flags = readFlags(sources.argv, options, { general: generalFlags, wordsMax: 0 });
  if (flags.wants !== null) return { kind: flags.wants };
  return resolveConfig(spec, flags, sources);
}

/** `loadConfig` of flags that another parser has read: texts by name, the file under "config". */
export function resolveConfig<Config extends object>(
  spec: ConfigSpec<Config>,
  flags: Pick<Flags, 'values' | 'errors'>,
  sources: Omit<ConfigSources, 'argv'>,
): ResolvedConfig<Config> {
  const options = spec.options as unknown as AnyOptions;
  const errors: string[] = [...flags.errors];
  const path = flags.values.get('config') ?? sources.env['TANDEM_CONFIG'] ?? null;
  const file = path === null ? new Map<string, unknown>() : readYaml(path, sources, errors);
  if (path !== null) errors.push(...unknownKeys(path, file, options));

  const values: Record<string, unknown> = {};
  const origins: Record<string, ConfigOrigin> = {};
  for (const [name, option] of Object.entries(options)) {
    const flag = flags.values.get(name);
    const set = option.isFlagOnly === true ? undefined : sources.env[variableName(name)];
    const variable = set === undefined || isServiceLink(set) ? undefined : set;
    let parsed: ReturnType<Option<unknown>['parseText']>;
    let place: string;
    if (flag !== undefined) {
      [parsed, place, origins[name]] = [option.parseText(flag), `--${flagName(name)}`, 'flag'];
    } else if (variable !== undefined) {
      [parsed, place] = [option.parseText(variable), variableName(name)];
      origins[name] = 'environment';
    } else if (file.has(name) && option.isFlagOnly !== true) {
      [parsed, place, origins[name]] = [
        option.parseYaml(file.get(name)),
        `${path}: ${name}`,
        'file',
      ];
    } else {
      [parsed, place, origins[name]] = [{ ok: true, value: option.fallback }, name, 'default'];
      if (option.fallback === undefined) {
        errors.push(
          `${name} must be given (--${flagName(name)}, ${variableName(name)} or in the file)`,
        );
      }
    }
    if (parsed.ok) values[name] = parsed.value;
    else errors.push(`${place}: ${parsed.error}`);
  }
  if (errors.length > 0) return { kind: 'error', errors };

  const config = values as Config;
  const related = spec.check?.(config) ?? [];
  if (related.length > 0) return { kind: 'error', errors: related };
  return {
    kind: 'config',
    config: Object.freeze(config),
    origins: origins as Record<keyof Config, ConfigOrigin>,
    warnings: [...serviceLinks(sources.env, options), ...unknownVariables(sources.env, options)],
  };
}
