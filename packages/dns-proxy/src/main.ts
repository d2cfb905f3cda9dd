// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The standalone DNS proxy's process. */

import { loadConfig, systemSources } from '@tandem/runtime/config';
import { helpText } from '@tandem/runtime/config-text';
import { Lifecycle } from '@tandem/runtime/lifecycle';
import { createLogger } from '@tandem/runtime/log';
import { proxyConfigSpec } from './config.ts';
import { DnsProxy } from './proxy.ts';
import { version } from './version.ts';

async function main(): Promise<number> {
  const loaded = loadConfig(proxyConfigSpec, systemSources());
  if (loaded.kind === 'help') {
    process.stdout.write(helpText(proxyConfigSpec));
    return 0;
  }
  if (loaded.kind === 'version') {
    process.stdout.write(`${version}\n`);
    return 0;
  }
  if (loaded.kind === 'error') {
    for (const error of loaded.errors) process.stderr.write(`tandem-dns-proxy: ${error}\n`);
    return 2;
  }
  const { config, warnings } = loaded;
  const log = createLogger({
    program: 'tandem-dns-proxy',
    level: config.logLevel,
    format: config.logFormat,
  });
  for (const warning of warnings) log.warn(warning);
  const lifecycle = new Lifecycle({
    log,
    startTimeoutMs: 2 ** 31 - 1,
    stopTimeoutMs: config.drainTimeout + 5000,
  });
  lifecycle.add(
    new DnsProxy(config, log, (error) => {
      // The other member and the kernel go on; a worker in an unknown state must not.
      log.error('DNS worker failed', { error });
      process.exit(70);
    }),
  );
  return lifecycle.run();
}

process.exitCode = await main();
process.exit();
