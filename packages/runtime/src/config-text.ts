// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

// A table of options as text: `--help` for the terminal, Markdown for docs/operations.

import { type ConfigSpec, variableName } from './config.ts';
import type { Option } from './config-option.ts';
import { flagName } from './flags.ts';
import { wrap } from './text-lines.ts';

const helpIndent = '      ';

interface NamedOption {
  readonly name: string;
  readonly option: Option<unknown>;
}

/** Options by group, both in the order of the table. */
function groups<Config>(spec: ConfigSpec<Config>): Map<string, NamedOption[]> {
  const byGroup = new Map<string, NamedOption[]>();
  for (const [name, option] of Object.entries<Option<unknown>>(spec.options)) {
    const group = byGroup.get(option.group);
    if (group === undefined) byGroup.set(option.group, [{ name, option }]);
    else group.push({ name, option });
  }
  return byGroup;
}

/** Null: the option is required. */
function defaultText(option: Option<unknown>): string | null {
  if (option.fallback === undefined) return null;
  const text = option.format(option.fallback);
  return text === '' ? 'empty' : text;
}

/** Without code format an empty value cannot be read as the word. */
function fallbackCell(value: string): string {
  return value === 'empty' ? 'empty' : `\`${value}\``;
}

/** Text that `--help` prints. */
export function helpText<Config>(spec: ConfigSpec<Config>): string {
  let text = `Usage: ${spec.program} [--config FILE] [--OPTION VALUE]...\n\n${wrap(spec.description, '')}`;
  text += `\nAn option is a flag, a key of the YAML file (camelCase) or a variable of the environment\n`;
  text += `(TANDEM_UPPER_SNAKE). A flag wins over a variable, and a variable over the file.\n`;
  for (const [group, options] of groups(spec)) {
    text += `\n${group}\n`;
    for (const { name, option } of options) {
      const range = option.range === '' ? '' : `: ${option.range}`;
      const fallback = defaultText(option);
      const need = fallback === null ? 'required' : `default: ${fallback}`;
      text += `  --${flagName(name)}  (${option.type}${range}; ${need})\n`;
      text += wrap(option.description, helpIndent);
    }
  }
  text += '\nGeneral\n  --config FILE  (also TANDEM_CONFIG)\n  --help\n  --version\n';
  return text;
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('\n', ' ');
}

/** The reference page's tables, one per group. Headings are of level `level`. */
export function optionsMarkdown<Config>(spec: ConfigSpec<Config>, level: number = 2): string {
  let text = '';
  for (const [group, options] of groups(spec)) {
    text += `${'#'.repeat(level)} ${group}\n\n`;
    text += '| key | flag | environment | type | default | meaning |\n|---|---|---|---|---|---|\n';
    for (const { name, option } of options) {
      const type = option.range === '' ? option.type : `${option.type}: ${option.range}`;
      const names = `\`${name}\` | \`--${flagName(name)}\` | \`${variableName(name)}\``;
      const value = defaultText(option);
      const fallback = value === null ? '**required**' : fallbackCell(value);
      text += `| ${names} | ${cell(type)} | ${cell(fallback)} | ${cell(option.description)} |\n`;
    }
    text += '\n';
  }
  return text;
}
