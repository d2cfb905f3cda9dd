// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Options of the log, which all processes have. */

import { enumOption } from './config-option.ts';
import type { OptionTable } from './flags.ts';
import { type LogFormat, type LogLevel, logLevels } from './log.ts';

export interface LogConfig {
  readonly logLevel: LogLevel;
  readonly logFormat: LogFormat;
}

export const logOptions: OptionTable<LogConfig> = {
  logLevel: enumOption({
    group: 'Observability',
    description: 'Lowest level that is logged.',
    default: 'info',
    values: logLevels,
  }),
  logFormat: enumOption({
    group: 'Observability',
    description: 'Format of log lines on standard error.',
    default: 'json',
    values: ['json', 'text'],
  }),
};
