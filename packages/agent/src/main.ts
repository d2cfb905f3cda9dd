// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The agent's process. */

import { version } from '@tandem/dns-proxy/version';
import { loadConfig, systemSources } from '@tandem/runtime/config';
import { helpText } from '@tandem/runtime/config-text';
import { Lifecycle } from '@tandem/runtime/lifecycle';
import { createLogger } from '@tandem/runtime/log';
import { Agent } from './agent.ts';
import { agentConfigSpec } from './config.ts';

async function main(): Promise<number> {
  const loaded = loadConfig(agentConfigSpec, systemSources());
  if (loaded.kind === 'help') {
    process.stdout.write(helpText(agentConfigSpec));
    return 0;
  }
  if (loaded.kind === 'version') {
    process.stdout.write(`${version}\n`);
    return 0;
  }
  if (loaded.kind === 'error') {
    for (const error of loaded.errors) process.stderr.write(`tandem-agent: ${error}\n`);
    return 2;
  }
  const { config, warnings } = loaded;
  const log = createLogger({
    program: 'tandem-agent',
    level: config.logLevel,
    format: config.logFormat,
  });
  for (const warning of warnings) log.warn(warning);
  const lifecycle = new Lifecycle({
    log,
    // It may have to wait for the end of another agent.
    startTimeoutMs: 2 ** 31 - 1,
    stopTimeoutMs: config.drainTimeout + 5000,
  });
  lifecycle.add(
    new Agent(config, log, (error) => {
      // The other member and the kernel go on; a worker in an unknown state must not.
      log.error('DNS worker failed', { error });
      process.exit(70);
    }),
  );
  return lifecycle.run();
}

process.exitCode = await main();
process.exit();
