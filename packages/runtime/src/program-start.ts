// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** How each of our processes begins: it reads its configuration, or answers --help, --version and errors of it, and makes its log. */

import { type ConfigSpec, loadConfig, systemSources } from './config.ts';
import { helpText } from './config-text.ts';
import { exitCodes } from './lifecycle.ts';
import { createLogger, type LogFormat, type Logger, type LogLevel } from './log.ts';

export interface LogConfig {
  readonly logLevel: LogLevel;
  readonly logFormat: LogFormat;
}

/** The configuration and the log, or the exit code of a process that has nothing more to do. */
export function startProgram<Config extends LogConfig>(
  spec: ConfigSpec<Config>,
  version: string,
): { readonly config: Config; readonly log: Logger } | number {
  const { program } = spec;
  const loaded = loadConfig(spec, systemSources());
  if (loaded.kind === 'help') {
    process.stdout.write(helpText(spec));
    return exitCodes.ok;
  }
  if (loaded.kind === 'version') {
    process.stdout.write(`${version}\n`);
    return exitCodes.ok;
  }
  if (loaded.kind === 'error') {
    for (const error of loaded.errors) process.stderr.write(`${program}: ${error}\n`);
    return exitCodes.usage;
  }
  const { config, warnings } = loaded;
  const log = createLogger({ program, level: config.logLevel, format: config.logFormat });
  for (const warning of warnings) log.warn(warning);
  return { config, log };
}
