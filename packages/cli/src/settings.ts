// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Where the node's things are: flags before TANDEM_ variables before the file of `--config`, which may be
 * the agent's or the proxy's own. Read by the table of the agent's options, so that a value means here
 * what it means there.
 */

import { type AgentConfig, agentConfigSpec } from '@tandem/agent/config';
import { err, ok, type Result } from '@tandem/core/result';
import { resolveConfig, systemSources, variableName } from '@tandem/runtime/config';
import type { Option as ConfigOption } from '@tandem/runtime/config-option';
import { flagName, type OptionTable } from '@tandem/runtime/flags';
import { Option } from 'commander';

const settingNames = [
  'bpffsDir',
  'runDir',
  'stateDir',
  'port',
  'mark',
  'proxyUid',
  'routingTable',
  'rulePriority',
  'cgroupPath',
] as const;
export type SettingName = (typeof settingNames)[number];

export type Settings = Pick<AgentConfig, SettingName>;

/** Settings that every command takes as a flag; the others belong to `doctor`. */
export const globalSettingNames: readonly SettingName[] = ['bpffsDir', 'runDir', 'stateDir'];
export const nodeSettingNames: readonly SettingName[] = settingNames.filter(
  (name) => !globalSettingNames.includes(name),
);

/** A setting of the node as a flag; its value is checked with all other settings. */
export function flagOf(name: SettingName): Option {
  const { description, fallback, format } = agentConfigSpec.options[name] as ConfigOption<unknown>;
  const text = fallback === undefined ? '' : `, default ${format(fallback)}`;
  return new Option(`--${flagName(name)} <value>`, `${description} (${variableName(name)}${text})`);
}

/** `flags`: texts as given; other options come from the environment, a file or the default. Errors name the origin of each. */
export function loadSettings(
  flags: Readonly<Partial<Record<SettingName, string>>>,
  configPath: string | undefined,
  env: Readonly<Record<string, string | undefined>>,
): Result<Settings, readonly string[]> {
  const values = new Map<string, string>(Object.entries(flags));
  if (configPath !== undefined) values.set('config', configPath);
  const loaded = resolveConfig(
    { ...agentConfigSpec, options: withoutRequired(agentConfigSpec.options) },
    { values, errors: [] },
    { ...systemSources(), env },
  );
  return loaded.kind === 'config' ? ok(loaded.config) : err(loaded.errors);
}

/** Options that the agent requires, such as its source, are unused here. */
function withoutRequired(options: OptionTable<AgentConfig>): OptionTable<AgentConfig> {
  const entries = Object.entries(options).map(([name, option]) => [
    name,
    option.fallback === undefined ? { ...option, fallback: '' } : option,
  ]);
  return Object.fromEntries(entries) as OptionTable<AgentConfig>;
}
